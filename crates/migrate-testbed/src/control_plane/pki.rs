//! Certificates and kubeconfig files of one control plane.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use serde_json::json;

use crate::Error;

/// A user as the API server sees one: the name and group of a client
/// certificate.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Identity {
    /// User name (common name of the certificate).
    pub user: String,
    /// Group (organization of the certificate); besides it every user is in
    /// `system:authenticated`.
    pub group: Option<String>,
    /// Whether the certificate expired years ago.
    pub expired: bool,
}

impl Identity {
    /// A user in no group, who may do nothing until a role is bound.
    pub fn new(user: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            group: None,
            expired: false,
        }
    }

    /// Puts the user into a group.
    #[must_use]
    pub fn with_group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Makes the certificate one that is no longer valid.
    #[must_use]
    pub fn expired(mut self) -> Self {
        self.expired = true;
        self
    }

    /// A user who may do everything.
    pub(crate) fn master(user: &str) -> Self {
        Self::new(user).with_group("system:masters")
    }
}

/// The authority of one control plane and the files it has written.
pub(crate) struct Pki {
    folder: PathBuf,
    server: String,
    authority: Issuer<'static, KeyPair>,
}

impl Pki {
    /// Makes an authority, the API server's certificate and the key pair for
    /// service account tokens. `port` is the API server's on 127.0.0.1.
    pub(crate) fn create(folder: PathBuf, port: u16) -> Result<Self, Error> {
        let subject = "the certificate authority";
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "testbed-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = generate(subject)?;
        let certificate = params
            .self_signed(&key)
            .map_err(certificate_error(subject))?;
        write_private(&folder.join("ca.crt"), &certificate.pem())?;
        let pki = Self {
            folder,
            server: format!("https://127.0.0.1:{port}"),
            authority: Issuer::new(params, key),
        };
        pki.write_server_certificate()?;
        let tokens = generate("service account tokens")?;
        write_private(&pki.file("sa.key"), &tokens.serialize_pem())?;
        write_private(&pki.file("sa.pub"), &tokens.public_key_pem())?;
        Ok(pki)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a kubeconfig for a user, all certificates included by path.
    pub(crate) fn kubeconfig(&self, identity: &Identity) -> Result<PathBuf, Error> {
        let mut params = CertificateParams::default();
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, identity.user.as_str());
        if let Some(group) = &identity.group {
            name.push(DnType::OrganizationName, group.as_str());
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if identity.expired {
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        let stem = file_stem(identity);
        self.sign(&stem, params)?;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testbed", "cluster": {
                "server": self.server,
                "certificate-authority": self.file("ca.crt"),
            }}],
            "users": [{"name": identity.user, "user": {
                "client-certificate": self.file(&format!("{stem}.crt")),
                "client-key": self.file(&format!("{stem}.key")),
            }}],
            "contexts": [{"name": "testbed", "context": {
                "cluster": "testbed", "user": identity.user,
            }}],
            "current-context": "testbed",
        });
        let path = self.file(&format!("{stem}.kubeconfig"));
        write_private(&path, &format!("{config:#}\n"))?;
        Ok(path)
    }

    fn write_server_certificate(&self) -> Result<(), Error> {
        let names = [
            "127.0.0.1",
            "localhost",
            "kubernetes.default.svc",
            "10.96.0.1",
        ];
        let mut params = CertificateParams::new(names.map(str::to_owned).to_vec())
            .map_err(certificate_error("kube-apiserver"))?;
        params
            .distinguished_name
            .push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign("apiserver", params)
    }

    /// Writes `<stem>.crt` and `<stem>.key`.
    fn sign(&self, stem: &str, mut params: CertificateParams) -> Result<(), Error> {
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = generate(stem)?;
        let certificate = params
            .signed_by(&key, &self.authority)
            .map_err(certificate_error(stem))?;
        write_private(&self.file(&format!("{stem}.crt")), &certificate.pem())?;
        write_private(&self.file(&format!("{stem}.key")), &key.serialize_pem())
    }
}

fn generate(subject: &str) -> Result<KeyPair, Error> {
    KeyPair::generate().map_err(certificate_error(subject))
}

fn certificate_error(subject: &str) -> impl FnOnce(rcgen::Error) -> Error {
    let subject = subject.to_owned();
    move |source| Error::Certificate { subject, source }
}

/// A file name for a user; distinct users may not share one.
fn file_stem(identity: &Identity) -> String {
    let whole = match &identity.group {
        Some(group) => format!("{}@{group}", identity.user),
        None => identity.user.clone(),
    };
    let safe = whole.replace(|c: char| !c.is_ascii_alphanumeric() && c != '@', "-");
    if identity.expired {
        format!("{safe}-expired")
    } else {
        safe
    }
}

fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    let writing = || format!("writing {}", path.display());
    // A kubeconfig asked for twice is replaced whole, never half written.
    let partial = path.with_extension("partial");
    let mut file = File::create(&partial).map_err(Error::io(writing()))?;
    file.set_permissions(Permissions::from_mode(0o600))
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&partial, path))
        .map_err(Error::io(writing()))
}
