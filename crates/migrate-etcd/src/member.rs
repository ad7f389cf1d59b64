//! One etcd member and how to reach it.

use std::fmt;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};

use crate::Error;

/// One etcd member: an endpoint, never a balanced list of them, because a
/// backup is of one member and the caller must know which.
#[derive(Clone)]
#[non_exhaustive]
pub struct Member {
    /// Client URL, e.g. `https://10.0.0.1:2379`.
    pub endpoint: String,
    /// Client certificate and CA.
    pub tls: Option<Tls>,
    /// User and password, where authentication is on.
    pub user: Option<(String, String)>,
}

/// PEM texts for TLS towards a member.
#[derive(Clone)]
pub struct Tls {
    /// CA certificates.
    pub ca: String,
    /// Client certificate.
    pub certificate: String,
    /// Client key.
    pub key: String,
}

impl Member {
    /// The member at `endpoint`, without TLS or user.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            tls: None,
            user: None,
        }
    }

    /// Uses TLS with a client certificate.
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Authenticates as a user.
    #[must_use]
    pub fn with_user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((name.into(), password.into()));
        self
    }

    /// Connects within `timeout`.
    pub(crate) async fn connect(&self, timeout: Duration) -> Result<Client, Error> {
        let mut options = ConnectOptions::new().with_connect_timeout(timeout);
        if let Some((name, password)) = &self.user {
            options = options.with_user(name, password);
        }
        options = self.tls_options(options)?;
        let connect = Client::connect([&self.endpoint], Some(options));
        match tokio::time::timeout(timeout, connect).await {
            Ok(client) => client.map_err(|error| Error::etcd(&self.endpoint, 0, error)),
            Err(_) => Err(Error::Stalled {
                endpoint: self.endpoint.clone(),
                bytes: 0,
                stall: timeout,
            }),
        }
    }

    #[cfg(feature = "tls")]
    fn tls_options(&self, options: ConnectOptions) -> Result<ConnectOptions, Error> {
        use etcd_client::{Certificate, Identity, TlsOptions};
        Ok(match &self.tls {
            Some(tls) => options.with_tls(
                TlsOptions::new()
                    .ca_certificate(Certificate::from_pem(&tls.ca))
                    .identity(Identity::from_pem(&tls.certificate, &tls.key)),
            ),
            None => options,
        })
    }

    #[cfg(not(feature = "tls"))]
    fn tls_options(&self, options: ConnectOptions) -> Result<ConnectOptions, Error> {
        if self.tls.is_some() || self.endpoint.starts_with("https://") {
            return Err(Error::TlsNotBuilt {
                endpoint: self.endpoint.clone(),
            });
        }
        Ok(options)
    }
}

impl fmt::Debug for Member {
    /// Shows no key and no password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("endpoint", &self.endpoint)
            .field("tls", &self.tls.is_some())
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .finish()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_texts_show_no_secret() {
        let secret = || "s3cret".to_owned();
        let tls = Tls {
            ca: secret(),
            certificate: secret(),
            key: secret(),
        };
        let member = Member::new("https://a:1")
            .with_tls(tls.clone())
            .with_user("root", secret());
        let text = format!("{member:?} {tls:?}");
        assert!(text.contains("root") && !text.contains("s3cret"), "{text}");
    }
}
