//! Members that somebody has named, and those that they tell of.

use async_trait::async_trait;
use futures::future::join_all;

use super::found::{Answer, found};
use super::{ANSWER, FindMembers, FoundMembers};
use crate::member::Listed;
use crate::{Error, Member};

/// Members that somebody has named, in whatever order: which of them a snapshot is taken of
/// is asked of each. One that is away, a learner, or one that lags is in nobody's way as long
/// as another one is fit.
///
/// The first that answers is asked for the members of its cluster: voters that nobody has
/// named are asked too, at the first URL by which they serve clients as this one was reached
/// (over TLS or not), with its TLS and its user. One that is not reached there counts as one
/// that was named and is away. One that somebody else answers for, as where members call
/// themselves `localhost`, is left out, and so are all if it was said so
/// ([`only_named`](Self::only_named)).
///
/// Whether all members of the cluster are among them then is not known before there is a
/// snapshot, which tells: [`Proof::is_enough`](crate::Proof::is_enough).
#[derive(Clone, Debug)]
pub struct NamedMembers {
    members: Vec<Member>,
    is_forced: bool,
    only_named: bool,
}

impl NamedMembers {
    /// These, and the others of their cluster.
    pub fn new(members: Vec<Member>) -> Self {
        Self {
            members,
            is_forced: false,
            only_named: false,
        }
    }

    /// Where none of them knows a leader, takes the one that has got furthest
    /// ([`SnapshotBackup::forced`](crate::SnapshotBackup::forced)). As long as there is
    /// quorum it changes nothing.
    #[must_use]
    pub fn forced(mut self) -> Self {
        self.is_forced = true;
        self
    }

    /// Asks nobody who was not named.
    #[must_use]
    pub fn only_named(mut self) -> Self {
        self.only_named = true;
        self
    }

    /// Those that were named, and the others that they tell of, whether they answer or not.
    pub async fn all(&self) -> Vec<Member> {
        let asked = self.asked().await;
        asked.into_iter().map(|(member, _)| member).collect()
    }

    /// All of them, with what each has answered.
    async fn asked(&self) -> Vec<(Member, Answer)> {
        let asked = join_all(self.members.iter().map(ask)).await;
        let mut asked: Vec<_> = self.members.iter().cloned().zip(asked).collect();
        if !self.only_named {
            asked.extend(others(&asked).await);
        }
        asked
    }
}

#[async_trait]
impl FindMembers for NamedMembers {
    async fn find(&self) -> Result<FoundMembers, Error> {
        found(self.asked().await, self.is_forced).map_err(|reasons| {
            let names: Vec<&str> = self.members.iter().map(|it| it.endpoint.as_str()).collect();
            Error::NoMember {
                nodes: names.join(", "),
                reasons,
            }
        })
    }
}

async fn ask(member: &Member) -> Answer {
    let standing = member.standing(ANSWER).await;
    let standing = standing.map_err(|error| error.to_string())?;
    Ok((member.clone(), standing, None))
}

/// The voters that those of `named` that answer tell of, and that are not among them.
async fn others(named: &[(Member, Answer)]) -> Vec<(Member, Answer)> {
    let answered = named.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    for (member, standing, _) in answered.clone() {
        let Ok(listed) = member.listed(ANSWER).await else {
            continue;
        };
        let is_named = |one: &Listed| {
            let has_answered = answered
                .clone()
                .any(|(_, it, _)| (it.cluster, it.id) == (standing.cluster, one.id));
            let is_away = |url: &String| named.iter().any(|(it, _)| it.is_at(url));
            has_answered || one.urls.iter().any(is_away)
        };
        let new = listed
            .iter()
            .filter(|one| !one.is_learner && !is_named(one));
        let asked = new.filter_map(|one| {
            let url = one.urls.iter().find(|url| member.goes_with(url))?;
            Some((one.id, member.beside(url)))
        });
        let asked = asked.map(async |(id, other)| {
            let answer = ask(&other).await;
            let is_meant = answer.as_ref().map_or(true, |(_, it, _)| {
                (it.cluster, it.id) == (standing.cluster, id)
            });
            is_meant.then_some((other, answer))
        });
        return join_all(asked).await.into_iter().flatten().collect();
    }
    Vec::new()
}
