//! Who can open a backup.

use std::fmt;
use std::io::Read;
use std::path::Path;

use age::secrecy::{ExposeSecret, SecretString};
use age::{DecryptError, Decryptor, Encryptor, scrypt, x25519};

use crate::Error;

/// Work of a passphrase, as a power of two: age's own choice for a machine of
/// today, fixed so that a slow machine does not make weaker files.
const WORK: u8 = if cfg!(test) { 4 } else { 18 };

/// Most work that a file to be opened may ask for; beyond it somebody wants the
/// memory.
const MOST_WORK: u8 = 20;

/// Who can open a backup: the owners of some public keys, or whoever knows a
/// passphrase. `Debug` shows no passphrase.
#[derive(Clone)]
pub struct Lock(Way);

#[derive(Clone)]
enum Way {
    Keys(Vec<x25519::Recipient>),
    Passphrase(SecretString),
}

impl Lock {
    /// For the owner of each of these public keys (`age1…`, as `age-keygen`
    /// prints them).
    ///
    /// # Errors
    /// [`Error::InvalidKey`] for one that is none, and if there is none at all.
    pub fn for_keys(keys: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, Error> {
        let parse = |key: &str| {
            key.trim()
                .parse::<x25519::Recipient>()
                // It may be the secret half, given by mistake.
                .map_err(|_| no_key("the text", "give the public half, age1…"))
        };
        let keys = keys.into_iter().map(|key| parse(key.as_ref()));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(no_key("nothing", "give at least one public key, age1…"));
        }
        Ok(Self(Way::Keys(keys)))
    }

    /// For whoever knows `passphrase`: one that was made by a machine, or many
    /// words. It takes 256 MiB of memory, here and there.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] for an empty one.
    pub fn with_passphrase(passphrase: impl Into<String>) -> Result<Self, Error> {
        let passphrase: String = passphrase.into();
        if passphrase.is_empty() {
            return Err(no_key("nothing", "give a passphrase"));
        }
        Ok(Self(Way::Passphrase(passphrase.into())))
    }

    /// What opens it, for people: the public keys, or `passphrase`.
    pub fn names(&self) -> Vec<String> {
        match &self.0 {
            Way::Keys(keys) => keys.iter().map(ToString::to_string).collect(),
            Way::Passphrase(_) => vec!["passphrase".to_owned()],
        }
    }

    pub(super) fn encryptor(&self) -> Result<Encryptor, Error> {
        let made = match &self.0 {
            Way::Keys(keys) => {
                let keys = keys.iter().map(|key| key as &dyn age::Recipient);
                Encryptor::with_recipients(keys)
            }
            Way::Passphrase(passphrase) => {
                let mut recipient = scrypt::Recipient::new(passphrase.clone());
                recipient.set_work_factor(WORK);
                Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
            }
        };
        made.map_err(|_| no_key("the list", "give public keys, age1…"))
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lock").field(&self.names()).finish()
    }
}

/// What opens backups. `Debug` shows none of it.
pub struct KeyRing(Vec<Box<dyn age::Identity + Send + Sync>>);

impl KeyRing {
    /// The secret keys in the text of a file as `age-keygen` writes it: one a
    /// line, blank lines and those that begin with `#` apart.
    ///
    /// # Errors
    /// [`Error::InvalidKey`]; no text shows what was given.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut keys: Vec<Box<dyn age::Identity + Send + Sync>> = Vec::new();
        for line in lines {
            let key: Result<x25519::Identity, _> = line.parse();
            keys.push(Box::new(
                key.map_err(|_| no_key("a line", "give what age-keygen wrote"))?,
            ));
        }
        if keys.is_empty() {
            return Err(no_key("an empty text", "give what age-keygen wrote"));
        }
        Ok(Self(keys))
    }

    /// A passphrase.
    pub fn with_passphrase(passphrase: impl Into<String>) -> Self {
        let passphrase: String = passphrase.into();
        let mut identity = scrypt::Identity::new(passphrase.into());
        identity.set_max_work_factor(MOST_WORK);
        Self(vec![Box::new(identity)])
    }

    /// A new key: what [`KeyRing::parse`] reads, to be kept where the backups are
    /// not, and its public half for [`Lock::for_keys`]. Its randomness is the
    /// operating system's.
    pub fn generate() -> (String, String) {
        let key = x25519::Identity::generate();
        let public = key.to_public().to_string();
        let text = key.to_string();
        let secret = format!("# public key: {public}\n{}\n", text.expose_secret());
        (secret, public)
    }

    pub(super) fn open<R: Read>(
        &self,
        input: R,
        path: &Path,
    ) -> Result<age::stream::StreamReader<R>, Error> {
        let locked = |reason: &str| Error::Locked {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let decryptor = Decryptor::new(input);
        let opened = decryptor.and_then(|decryptor| {
            let keys = self.0.iter().map(|key| &**key as &dyn age::Identity);
            decryptor.decrypt(keys)
        });
        opened.map_err(|error| match error {
            DecryptError::Io(source) if source.raw_os_error().is_some() => {
                Error::file(path, source)
            }
            DecryptError::NoMatchingKeys => locked("it was encrypted for other keys"),
            DecryptError::ExcessiveWork { .. } => {
                locked("its passphrase asks for more memory than any file of ours")
            }
            DecryptError::DecryptionFailed => locked("the passphrase is another one"),
            _ => locked("it is no age file, or its beginning is damaged"),
        })
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyRing").field(&self.0.len()).finish()
    }
}

fn no_key(what: &str, cure: &'static str) -> Error {
    Error::InvalidKey {
        what: what.to_owned(),
        kind: "age",
        cure,
    }
}
