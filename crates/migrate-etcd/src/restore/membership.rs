//! The members of a restored cluster, and their ids.

use std::collections::BTreeSet;

use serde::Serialize;
use sha1::{Digest, Sha1};

use crate::wal::Voter;
use crate::{Error, MemberRecord};

/// The voting members of the cluster that a restore begins.
///
/// # Guarantees
/// Ids depend on nothing but peer addresses and token, and are those of
/// `etcdutl snapshot restore` and of a new cluster of these members: each member
/// can be restored on its own machine, and they form one cluster.
///
/// There are no learners in it: nobody could promote one before there is a
/// quorum. Add it to the cluster when that runs. A member that is called as a learner of the
/// snapshot is refused by the restore ([`Error::Learner`]).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Membership {
    token: String,
    /// By id.
    members: Vec<NewMember>,
}

/// A member of a cluster to be.
#[derive(Clone, Debug, Eq, PartialEq)]
struct NewMember {
    id: u64,
    name: String,
    peer_urls: Vec<String>,
}

impl Membership {
    /// Reads what etcd takes as `--initial-cluster` and
    /// `--initial-cluster-token`: `a=http://10.0.0.1:2380,b=http://10.0.0.2:2380`; a
    /// name may stand several times, once for each of its addresses.
    ///
    /// Use a new token for each restore: members of the old cluster that still
    /// run then cannot be mixed up with the new ones.
    ///
    /// # Errors
    /// [`Error::InvalidMembership`].
    pub fn parse(initial_cluster: &str, token: &str) -> Result<Self, Error> {
        let mut found: Vec<(String, Vec<String>)> = Vec::new();
        let mut urls = BTreeSet::new();
        for part in initial_cluster.split(',').map(str::trim) {
            let wrong = |reason: &str| Err(membership(part, reason));
            let Some((name, url)) = part.split_once('=') else {
                return wrong("is not NAME=URL");
            };
            let (name, url) = (name.trim(), url.trim());
            if name.is_empty() {
                return wrong("has no name");
            }
            if let Some(reason) = what_is_wrong(url) {
                return wrong(reason);
            }
            if !urls.insert(url) {
                return wrong("has an address that another member has");
            }
            match found.iter_mut().find(|(known, _)| known == name) {
                Some((_, urls)) => urls.push(url.to_owned()),
                None => found.push((name.to_owned(), vec![url.to_owned()])),
            }
        }
        let mut members: Vec<_> = found
            .into_iter()
            .map(|(name, mut peer_urls)| {
                peer_urls.sort();
                let id = id_of(format!("{}{token}", peer_urls.concat()).as_bytes());
                NewMember {
                    id,
                    name,
                    peer_urls,
                }
            })
            .collect();
        members.sort_by_key(|member| member.id);
        Ok(Self {
            token: token.to_owned(),
            members,
        })
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> u64 {
        let ids = self
            .members
            .iter()
            .flat_map(|member| member.id.to_be_bytes());
        id_of(&ids.collect::<Vec<_>>())
    }

    /// The id of the member `name`.
    pub fn member_id(&self, name: &str) -> Option<u64> {
        let member = self.members.iter().find(|member| member.name == name);
        member.map(|member| member.id)
    }

    /// Names and ids of all, by id.
    pub fn members(&self) -> impl Iterator<Item = (&str, u64)> {
        let members = self.members.iter();
        members.map(|member| (member.name.as_str(), member.id))
    }

    /// The token.
    pub fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn refuse_without(&self, name: &str) -> Result<u64, Error> {
        self.member_id(name)
            .ok_or_else(|| membership(name, "is none of the members"))
    }

    /// Refuses a member that is called as one of `known`, the snapshot's, which is a learner:
    /// it had no vote, and is not to have one by a restore alone.
    pub(super) fn refuse_learners(&self, known: &[MemberRecord]) -> Result<(), Error> {
        let mut learners = known.iter().filter(|known| known.is_learner);
        match learners.find(|learner| self.member_id(&learner.name).is_some()) {
            None => Ok(()),
            Some(learner) => Err(Error::Learner {
                member: learner.name.clone(),
            }),
        }
    }

    /// What the log says of each.
    pub(crate) fn voters(&self) -> Result<Vec<Voter>, serde_json::Error> {
        let voter = |member: &NewMember| {
            let json = MemberJson {
                id: member.id,
                peer_urls: &member.peer_urls,
                name: &member.name,
            };
            let json = serde_json::to_vec(&json)?;
            Ok(Voter {
                id: member.id,
                json,
            })
        };
        self.members.iter().map(voter).collect()
    }

    /// Ids and peer addresses, by id.
    pub(super) fn peers(&self) -> impl Iterator<Item = (u64, &[String])> {
        let members = self.members.iter();
        members.map(|member| (member.id, member.peer_urls.as_slice()))
    }
}

/// A member as etcd writes it into its log and database.
#[derive(Serialize)]
struct MemberJson<'a> {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    name: &'a str,
}

/// The first 8 bytes of the SHA-1, as etcd's `computeMemberID` and `genID`.
fn id_of(bytes: &[u8]) -> u64 {
    let hash = Sha1::digest(bytes);
    let first = hash.first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(first)
}

fn membership(what: &str, reason: &str) -> Error {
    Error::InvalidMembership {
        what: what.to_owned(),
        reason: reason.to_owned(),
    }
}

/// What etcd would object to in a peer's address.
fn what_is_wrong(url: &str) -> Option<&'static str> {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let Some(address) = rest else {
        return Some("is neither http:// nor https://");
    };
    if address.contains(['/', '?', '#', '@', ' ']) {
        return Some("has more than a host and a port");
    }
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => None,
        _ => Some("has no host and port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &str =
        "m1=http://127.0.0.1:2380,m2=http://127.0.0.1:2480,m3=http://127.0.0.1:2580";

    /// The ids that `etcdutl snapshot restore` 3.6.16 gave these members.
    #[test]
    fn ids_are_those_of_etcdutl() {
        let membership = Membership::parse(THREE, "tok").unwrap();
        assert_eq!(membership.cluster_id(), 0xc9b3_926d_e97c_b80d);
        let ids: Vec<_> = membership.members().collect();
        let expected = [
            ("m1", 0x7140_5583_d3e2_d5ce),
            ("m3", 0xa37d_bf27_f1d3_fccd),
            ("m2", 0xb6f4_08d9_0a21_367b),
        ];
        assert_eq!(ids, expected);
        assert_ne!(Membership::parse(THREE, "other").unwrap(), membership);
    }

    #[test]
    fn addresses_of_a_member_count_in_their_order_by_name() {
        let one = Membership::parse("a=http://b:1,a=http://a:1", "t").unwrap();
        let other = Membership::parse(" a=http://a:1 , a=http://b:1", "t").unwrap();
        assert_eq!(one, other);
        assert_eq!(one.members().count(), 1);
    }

    #[test]
    fn what_is_no_membership_is_refused_by_name() {
        for (text, reason) in [
            ("", "is not NAME=URL"),
            ("m1", "is not NAME=URL"),
            ("=http://a:1", "has no name"),
            ("m1=a:1", "neither http"),
            ("m1=unix://a:1", "neither http"),
            ("m1=http://a", "no host and port"),
            ("m1=http://:1", "no host and port"),
            ("m1=http://a:70000", "no host and port"),
            ("m1=http://a:1/x", "more than a host"),
            ("m1=http://a:1,m2=http://a:1", "another member has"),
        ] {
            let error = Membership::parse(text, "t").unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(error.contains("give NAME="), "{error}");
        }
    }
}
