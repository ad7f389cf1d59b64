//! How members of etcd are reached, by files that flags name.

use std::path::Path;

use migrate_etcd::{Member, Tls};

/// What the flags name; nothing is read yet.
#[derive(Clone, Copy, Default)]
pub(crate) struct Reach<'a> {
    pub(crate) ca: Option<&'a Path>,
    /// Client certificate and its key; nothing without the CA.
    pub(crate) identity: Option<(&'a Path, &'a Path)>,
    /// Name, and file with the password, whose end of line does not count.
    pub(crate) user: Option<(&'a str, &'a Path)>,
}

/// The same with the files' contents.
pub(crate) struct Read {
    tls: Option<Tls>,
    user: Option<(String, String)>,
}

impl Reach<'_> {
    /// Reads the files by `read`.
    pub(crate) fn read<E>(&self, read: impl Fn(&Path) -> Result<String, E>) -> Result<Read, E> {
        let mut tls = self.ca.map(&read).transpose()?.map(Tls::new);
        if let Some((certificate, key)) = self.identity {
            let (certificate, key) = (read(certificate)?, read(key)?);
            tls = tls.map(|tls| tls.with_identity(certificate, key));
        }
        let user = match self.user {
            Some((name, file)) => Some((name.to_owned(), read(file)?.trim_end().to_owned())),
            None => None,
        };
        Ok(Read { tls, user })
    }
}

impl Read {
    /// The member at `endpoint`, reached so.
    pub(crate) fn member(&self, endpoint: &str) -> Member {
        let mut member = Member::new(endpoint);
        if let Some(tls) = &self.tls {
            member = member.with_tls(tls.clone());
        }
        if let Some((name, password)) = &self.user {
            member = member.with_user(name, password);
        }
        member
    }
}
