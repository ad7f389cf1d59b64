//! What is said of a backup in its report.

#[cfg(feature = "client")]
use migrate_core::steps::{BACKUP_UNPROVEN, BackupProof};
use migrate_core::{Finding, ObjectName, Severity};

#[cfg(feature = "client")]
use crate::Proof;
#[cfg(feature = "client")]
use crate::standing::Fullness;
#[cfg(all(feature = "client", feature = "seal"))]
use crate::{KeyInDoubt, PrivateKey, SetRecord};

/// Code of the finding that a backup is not encrypted.
pub const BACKUP_PLAIN: &str = "KM-BACKUP-003";
/// Code of the finding that a backup cannot be used without further keys.
pub const BACKUP_NEEDS_KEY: &str = "KM-BACKUP-004";
/// Code of the finding that a set lacks files.
pub const BACKUP_LACKS_FILE: &str = "KM-BACKUP-005";
/// Code of the finding that a member was not compared with a backup.
pub const BACKUP_NOT_COMPARED: &str = "KM-BACKUP-006";
/// Code of the finding that tells which members a backup is equal to.
pub const BACKUP_COMPARED: &str = "KM-BACKUP-009";
/// Code of the finding that a backup was taken although there was no quorum.
pub const BACKUP_FORCED: &str = "KM-BACKUP-010";
/// Code of the finding that nobody has signed a backup.
pub const BACKUP_UNSIGNED: &str = "KM-BACKUP-011";
/// Code of the finding that the database of etcd is full, or nearly so.
pub const BACKUP_FULL: &str = "KM-BACKUP-012";
/// Code of the finding that a set lacks a private key of the cluster, or has one, or a public
/// key of tokens, that was not compared.
pub const BACKUP_KEY_IN_DOUBT: &str = "KM-BACKUP-014";

fn finding(
    code: &str,
    severity: Severity,
    file: &str,
    evidence: impl Into<String>,
    cure: &str,
) -> Finding {
    let object = ObjectName::cluster("File", file);
    Finding::new(code, severity, object, evidence, cure)
}

/// That the backup `file` is not encrypted.
#[cfg(feature = "client")]
pub(super) fn plain(file: &str) -> Finding {
    finding(
        BACKUP_PLAIN,
        Severity::Warning,
        file,
        "it is not encrypted: who reads it has every Secret of the cluster",
        "give a public key of age to encrypt it for, and remove this file",
    )
}

/// That nobody has looked at it.
#[cfg(feature = "client")]
pub(super) fn nobody_compared(file: &str) -> Finding {
    finding(
        BACKUP_UNPROVEN,
        Severity::Blocker,
        file,
        "the snapshot is complete and its checksum holds, but nobody has compared it with the live \
         members or restored it, and certificates and keys are not part of it",
        "waive KM-BACKUP-001 if you have proven a backup by other means",
    )
}

/// That it has not got the keys of the cluster.
#[cfg(feature = "client")]
pub(super) fn without_keys(file: &str) -> Finding {
    finding(
        BACKUP_UNPROVEN,
        Severity::Blocker,
        file,
        "certificates and keys of the cluster are not part of the snapshot, and without them \
         it restores none",
        "give the files of the control-plane nodes, or keep the keys elsewhere and waive \
         KM-BACKUP-001",
    )
}

/// That no node has the key that signs tokens.
#[cfg(all(feature = "client", feature = "seal"))]
pub(super) fn without_signer(file: &str) -> Finding {
    finding(
        BACKUP_UNPROVEN,
        Severity::Blocker,
        file,
        "no node has pki/sa.key, and without it no API server starts that is restored: it cannot \
         sign tokens",
        "give the files of a node that has it; or waive KM-BACKUP-001 where the key is kept \
         elsewhere, or another program signs for the API servers",
    )
}

/// That nobody can tell whether it has the key that the cluster signs tokens with.
#[cfg(all(feature = "client", feature = "seal"))]
pub(super) fn unknown_signer(file: &str) -> Finding {
    finding(
        BACKUP_UNPROVEN,
        Severity::Blocker,
        file,
        "whether it has the key that the cluster signs tokens with is not known: with another one \
         a restored control plane accepts no token of before",
        "compare pki/sa.pub with the keys of the program that signs for the API servers, and waive \
         KM-BACKUP-001",
    )
}

/// That a private key is not in it, or was not compared with its public half.
#[cfg(all(feature = "client", feature = "seal"))]
pub(super) fn in_doubt(doubt: &KeyInDoubt, file: &str) -> Finding {
    let (key, nodes) = (format!("pki/{}", doubt.file), doubt.nodes.join(", "));
    let is_ca = doubt.file.starts_with("ca.");
    let (evidence, cure) = match (doubt.key, doubt.elsewhere) {
        _ if doubt.file == "sa.pub" => (
            format!(
                "{key} of {nodes} was not compared with what the cluster signs tokens with: its key \
                 set (/openid/v1/jwks) has a key without numbers that can be read here"
            ),
            "compare it with the keys of the program that signs for the API servers, once",
        ),
        (PrivateKey::Absent, true) => (
            format!("{key} of {nodes} is not in it; another node of the set has it"),
            "see why that node has none, and copy it there when it is restored",
        ),
        (PrivateKey::Absent, false) if is_ca => (
            format!(
                "{key} of {nodes} is not in it: it is an external CA, as kubeadm calls one whose \
                 key is elsewhere, or the key is lost"
            ),
            "keep that key where the cluster is not: a restore on new machines needs it, to sign \
             their certificates",
        ),
        (PrivateKey::Absent, false) => (
            format!("{key} of {nodes} is not in it"),
            "keep that key where the cluster is not: a restored control plane needs it, to sign \
             tokens",
        ),
        _ => (
            format!(
                "{key} of {nodes} was not compared with its public half: it has a passphrase, or is \
                 of a kind or size that cannot be read here"
            ),
            "compare them yourself (`openssl pkey -in KEY -pubout`), once",
        ),
    };
    finding(BACKUP_KEY_IN_DOUBT, Severity::Warning, file, evidence, cure)
}

/// That `member` was not compared with it.
#[cfg(feature = "client")]
pub(super) fn not_compared(file: &str, member: &str, why: &str) -> Finding {
    finding(
        BACKUP_NOT_COMPARED,
        Severity::Warning,
        file,
        format!("the member {member} was not compared with it: {why}"),
        "see that the member is well before one is changed",
    )
}

/// That the backup `file` was forced.
#[cfg(feature = "client")]
pub(super) fn forced(file: &str) -> Finding {
    finding(
        BACKUP_FORCED,
        Severity::Blocker,
        file,
        "it was FORCED: taken of a member of etcd that need not have known a leader, so that it \
         may be old and lack changes that the cluster had agreed on; it proves nothing",
        "take another one when there is quorum; or waive KM-BACKUP-010 and KM-BACKUP-001 where \
         this is all that there is",
    )
}

/// That nobody has signed it. What is proven is relied on without a further question, so
/// that this is one; what is not asks for one already.
#[cfg(feature = "client")]
pub(super) fn unsigned(file: &str, proof: BackupProof) -> Finding {
    let severity = match proof >= BackupProof::Proven {
        true => Severity::Blocker,
        false => Severity::Warning,
    };
    finding(
        BACKUP_UNSIGNED,
        severity,
        file,
        "NOBODY HAS SIGNED it: whoever can write where it lies can put another one there, encrypted \
         for the same keys, and no restore would tell",
        "give the key that signs its manifest (`etcd_backup keygen` makes one), or waive \
         KM-BACKUP-011",
    )
}

/// That the database that the backup `file` is of is full, or nearly so. An upgrade writes all
/// the while.
#[cfg(feature = "client")]
pub(super) fn full(file: &str, fullness: Fullness) -> Finding {
    let (severity, evidence) = match fullness {
        Fullness::NoSpace => (
            Severity::Blocker,
            "the etcd that it is of has the alarm NOSPACE: it refuses every write, those of an \
             upgrade too"
                .to_owned(),
        ),
        Fullness::Nearly { size, quota } => (
            Severity::Warning,
            format!(
                "the database that it is of has {size} of the {quota} bytes that it may have, and \
                 refuses every write once it has them"
            ),
        ),
    };
    finding(
        BACKUP_FULL,
        severity,
        file,
        evidence,
        "defragment one member after the other (`etcdctl defrag`), or raise \
         --quota-backend-bytes; then `etcdctl alarm disarm` where the alarm is raised",
    )
}

/// Which members a backup is equal to, and whether those are enough.
#[cfg(feature = "client")]
pub(super) fn compared_with(proof: &Proof, file: &str) -> Finding {
    let members = proof.compared.iter();
    let members: Vec<_> = members
        .map(|member| format!("{} ({})", member.name, member.id))
        .collect();
    let (some, all, names) = (members.len(), proof.voters(), members.join(", "));
    if !proof.is_enough() {
        return finding(
            BACKUP_UNPROVEN,
            Severity::Blocker,
            file,
            format!(
                "it was compared with {some} of the {all} voting members of etcd ({names}), and two \
                 have to agree: one alone may be the one that went wrong"
            ),
            "give the endpoints of the other members as well, or have them found on the \
             control-plane nodes; or waive KM-BACKUP-001",
        );
    }
    let evidence = match all {
        1 => format!("its keys are those of the only voting member of etcd, {names}"),
        _ => format!("its keys are those of {some} of the {all} voting members of etcd: {names}"),
    };
    finding(
        BACKUP_COMPARED,
        Severity::Info,
        file,
        evidence,
        "nothing: so many are enough",
    )
}

/// Which files a set lacks.
#[cfg(all(feature = "client", feature = "seal"))]
pub(super) fn lacking(record: &SetRecord, file: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in &record.nodes {
        let lists = [
            (&node.missing, "not there, or a link to a folder"),
            (&node.too_large, "larger than 1 MiB"),
        ];
        for (paths, why) in lists {
            for path in paths {
                findings.push(finding(
                    BACKUP_LACKS_FILE,
                    Severity::Warning,
                    file,
                    format!("{path} of node {} is not in it: it is {why}", node.name),
                    "see whether a restored node needs it, and keep a copy of it then",
                ));
            }
        }
    }
    findings
}

/// That `key` is needed to use the backup `file`.
pub(super) fn needs_key(file: &str, key: &str) -> Finding {
    finding(
        BACKUP_NEEDS_KEY,
        Severity::Warning,
        file,
        format!("it holds objects that are encrypted with {key}"),
        "see that a copy of that key, or the KMS, is where the cluster is not",
    )
}
