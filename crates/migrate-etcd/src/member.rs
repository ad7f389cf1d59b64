//! One etcd member and how to reach it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use tonic::transport::Endpoint;

use crate::Error;
use crate::standing::Standing;

/// One etcd member: an endpoint, never a balanced list of them, because a
/// backup is of one member and the caller must know which.
#[derive(Clone)]
#[non_exhaustive]
pub struct Member {
    /// Client URL, e.g. `https://10.0.0.1:2379`.
    pub endpoint: String,
    /// CA, and client certificate where it asks for one.
    pub tls: Option<Tls>,
    /// User and password, where authentication is on.
    pub user: Option<(String, String)>,
    /// Where it is reached, if not by its URL.
    pub via: Option<SocketAddr>,
}

/// A member as another one of its cluster has it.
pub(crate) struct Listed {
    pub(crate) id: u64,
    /// Where it serves clients; none if it has never started.
    pub(crate) urls: Vec<String>,
    pub(crate) is_learner: bool,
}

/// PEM texts for TLS towards a member.
#[derive(Clone)]
#[non_exhaustive]
pub struct Tls {
    /// CA certificates, one of which has signed the member's.
    pub ca: String,
    /// Client certificate and its key. Only a member that verifies clients by certificates
    /// (`--client-cert-auth`) asks for one.
    pub identity: Option<(String, String)>,
}

impl Tls {
    /// TLS by these CA certificates, without a client certificate.
    pub fn new(ca: impl Into<String>) -> Self {
        Self {
            ca: ca.into(),
            identity: None,
        }
    }

    /// Shows this client certificate.
    #[must_use]
    pub fn with_identity(mut self, certificate: impl Into<String>, key: impl Into<String>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }
}

impl Member {
    /// The member at `endpoint`, without TLS or user.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            tls: None,
            user: None,
            via: None,
        }
    }

    /// Uses TLS.
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

    /// Connects to `address`, where a tunnel to the member begins. Its certificate has
    /// to be for the host of its URL all the same.
    #[must_use]
    pub fn via(mut self, address: SocketAddr) -> Self {
        self.via = Some(address);
        self
    }

    /// Scheme, and what of its URL is between that and a path.
    fn scheme_and_authority(&self) -> (&str, &str) {
        let parts = self.endpoint.split_once("://");
        let (scheme, rest) = parts.unwrap_or(("http", &self.endpoint));
        (scheme, rest.split('/').next().unwrap_or(rest))
    }

    /// Scheme, and host without the brackets of an address, of its URL.
    fn scheme_and_host(&self) -> (&str, &str) {
        let (scheme, authority) = self.scheme_and_authority();
        let host = match authority.strip_prefix('[') {
            Some(v6) => v6.split(']').next(),
            None => authority.split(':').next(),
        };
        (scheme, host.unwrap_or(authority))
    }

    /// Whether it is asked over TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.scheme_and_host().0 == "https"
    }

    /// Whether its URL leads to the machine that asks, whichever that is.
    #[cfg(feature = "seal")]
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.scheme_and_host().1;
        let address = host.parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// `HOST:PORT` of its URL.
    #[cfg(feature = "seal")]
    pub(crate) fn address(&self) -> String {
        let authority = self.scheme_and_authority().1;
        let host = self.scheme_and_host().1;
        // The port that clients of etcd take.
        match authority.ends_with(host) || authority.ends_with(']') {
            true => format!("{authority}:2379"),
            false => authority.to_owned(),
        }
    }

    /// How it is, answered within `timeout`.
    pub(crate) async fn standing(&self, timeout: Duration) -> Result<Standing, Error> {
        let status = self.answer(timeout, async |client| client.status().await);
        Ok(Standing::of(&status.await?))
    }

    /// The members of its cluster as it knows them, answered within `timeout`, also where
    /// there is no quorum.
    pub(crate) async fn listed(&self, timeout: Duration) -> Result<Vec<Listed>, Error> {
        let list = self.answer(timeout, async |client| client.member_list().await);
        let list = list.await?;
        let listed = list.members().iter().map(|member| Listed {
            id: member.id(),
            urls: member.client_urls().to_vec(),
            is_learner: member.is_learner(),
        });
        Ok(listed.collect())
    }

    /// What it says to `ask`, within `timeout`.
    async fn answer<T>(
        &self,
        timeout: Duration,
        ask: impl AsyncFnOnce(&mut Client) -> Result<T, etcd_client::Error>,
    ) -> Result<T, Error> {
        let asking = async {
            let mut client = self.connect(timeout).await?;
            let answer = ask(&mut client).await;
            answer.map_err(|error| Error::etcd(&self.endpoint, 0, error))
        };
        let answer = tokio::time::timeout(timeout, asking).await;
        answer.unwrap_or_else(|_| {
            Err(Error::Stalled {
                endpoint: self.endpoint.clone(),
                bytes: 0,
                stall: timeout,
            })
        })
    }

    /// Another one of its cluster, at `url`: the same certificates and the same user.
    pub(crate) fn beside(&self, url: &str) -> Self {
        Self {
            endpoint: url.to_owned(),
            via: None,
            ..self.clone()
        }
    }

    /// Whether `url` is asked as this one is: no password goes in the clear because of what a
    /// member says, and no certificate where none is looked at.
    pub(crate) fn goes_with(&self, url: &str) -> bool {
        let is_https = self.is_https() || self.tls.is_some();
        url.starts_with(if is_https { "https://" } else { "http://" })
    }

    /// Whether that is its URL.
    pub(crate) fn is_at(&self, url: &str) -> bool {
        let plain = |url: &str| url.trim_end_matches('/').to_owned();
        plain(&self.endpoint) == plain(url)
    }

    /// Host and port to connect to.
    pub(crate) fn reached_at(&self) -> String {
        match self.via {
            Some(address) => address.to_string(),
            None => self.scheme_and_authority().1.to_owned(),
        }
    }

    /// The URL to connect to.
    pub(crate) fn target(&self) -> String {
        match self.via {
            Some(address) => format!("{}://{address}", self.scheme_and_host().0),
            None => self.endpoint.clone(),
        }
    }

    /// Connects within `timeout`.
    pub(crate) async fn connect(&self, timeout: Duration) -> Result<Client, Error> {
        let mut options = ConnectOptions::new().with_connect_timeout(timeout);
        if let Some((name, password)) = &self.user {
            // A token lives for minutes, or until users are changed.
            options = options
                .with_user(name, password)
                .with_auto_token_refresh(true);
        }
        options = self.tls_options(options)?;
        let connect = Client::connect([self.target()], Some(options));
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
        Ok(match self.tls_config() {
            Some(tls) => options.with_tls(tls),
            None => options,
        })
    }

    #[cfg(feature = "tls")]
    fn tls_config(&self) -> Option<etcd_client::TlsOptions> {
        use etcd_client::{Certificate, Identity, TlsOptions};
        let tls = self.tls.as_ref()?;
        let mut with = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.ca));
        if let Some((certificate, key)) = &tls.identity {
            with = with.identity(Identity::from_pem(certificate, key));
        }
        Some(match self.via {
            Some(_) => with.domain_name(self.scheme_and_host().1),
            None => with,
        })
    }

    /// `endpoint` with the member's TLS, if it has any.
    #[cfg(feature = "tls")]
    pub(crate) fn with_own_tls(&self, endpoint: Endpoint) -> Option<Endpoint> {
        endpoint.tls_config(self.tls_config()?).ok()
    }

    /// None: a build without TLS asks nobody over it.
    #[cfg(not(feature = "tls"))]
    pub(crate) fn with_own_tls(&self, _: Endpoint) -> Option<Endpoint> {
        None
    }

    #[cfg(not(feature = "tls"))]
    fn tls_options(&self, options: ConnectOptions) -> Result<ConnectOptions, Error> {
        if self.tls.is_some() || self.endpoint.starts_with("https://") {
            return Err(Error::NotBuilt {
                what: self.endpoint.clone(),
                feature: "tls",
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
            .field("via", &self.via)
            .finish()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("identity", &self.identity.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_end_of_a_tunnel_is_known_by_its_own_name() {
        let via = SocketAddr::from(([127, 0, 0, 1], 4321));
        for (endpoint, host) in [
            ("https://10.0.0.1:2379", "10.0.0.1"),
            ("https://[fd00::1]:2379", "fd00::1"),
            ("https://etcd-1.example", "etcd-1.example"),
        ] {
            let member = Member::new(endpoint);
            assert_eq!(member.target(), endpoint);
            #[cfg(feature = "seal")]
            assert!(member.address().ends_with(":2379") && !member.is_loopback());
            let member = member.via(via);
            assert_eq!(member.target(), "https://127.0.0.1:4321");
            assert_eq!(member.scheme_and_host(), ("https", host));
        }
        #[cfg(feature = "seal")]
        for endpoint in [
            "https://127.0.0.1:2379",
            "http://[::1]:1",
            "http://localhost",
        ] {
            assert!(Member::new(endpoint).is_loopback(), "{endpoint}");
        }
        let plain = Member::new("http://10.0.0.1:2379").via(via);
        assert_eq!(plain.target(), "http://127.0.0.1:4321");
    }

    #[test]
    fn debug_texts_show_no_secret() {
        let secret = || "s3cret".to_owned();
        let tls = Tls::new(secret()).with_identity(secret(), secret());
        let member = Member::new("https://a:1")
            .with_tls(tls.clone())
            .with_user("root", secret());
        let text = format!("{member:?} {tls:?}");
        assert!(text.contains("root") && !text.contains("s3cret"), "{text}");
    }
}
