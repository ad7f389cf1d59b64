//! What a store says that does not do what it is asked.

use object_store::Error as Cause;
use object_store::path::Path as Location;

/// Codes for an object that is immutable for a time: of what speaks like S3, of Azure, of OSS.
const LOCKED: [&str; 3] = ["ObjectLocked", "BlobImmutableDueToPolicy", "FileImmutable"];

/// Codes by which S3 and MinIO say no to that too, among other things …
const MAY_BE_LOCKED: [&str; 2] = ["AccessDenied", "InvalidRequest"];

/// … and how their messages tell it then.
const LOCKS: [&str; 5] = [
    "object lock",
    "retention",
    "legal hold",
    "worm protected",
    "immutable",
];

/// Why an object stays.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// It is immutable for a time, which says nothing of others.
    Locked,
    /// Who asks may not remove it, and perhaps none.
    Denied,
    /// The store failed.
    Failed,
}

impl Refusal {
    /// What `cause`, for which `location` was not removed, says.
    pub(super) fn of(cause: &Cause, location: &Location) -> Self {
        let (source, is_denied) = match cause {
            Cause::PermissionDenied { source, .. } | Cause::Unauthenticated { source, .. } => {
                (source, true)
            }
            Cause::AlreadyExists { source, .. } | Cause::Generic { source, .. } => (source, false),
            _ => return Self::Failed,
        };
        let text = source.to_string();
        let (code, message) = answer(&text, location.as_ref()).unwrap_or_default();
        let message = message.to_lowercase();
        let names_lock = LOCKS.iter().any(|lock| message.contains(lock));
        if LOCKED.contains(&code) || MAY_BE_LOCKED.contains(&code) && names_lock {
            Self::Locked
        } else if is_denied || code == "AccessDenied" {
            Self::Denied
        } else {
            Self::Failed
        }
    }
}

/// Whether a store says that there is no such upload: 404 in S3, and some other status, with the
/// same code, in what speaks like it.
pub(super) fn is_gone(cause: &Cause, location: &Location) -> bool {
    match cause {
        Cause::NotFound { .. } => true,
        Cause::Generic { source, .. } => {
            let text = source.to_string();
            answer(&text, location.as_ref()).is_some_and(|(code, _)| code == "NoSuchUpload")
        }
        _ => false,
    }
}

/// The code and the message of an answer. Its text has the object's name too, which may read
/// like either.
fn answer<'a>(text: &'a str, location: &str) -> Option<(&'a str, &'a str)> {
    // Of one among several that are removed at once the client of S3 has it in words alone.
    let of_one = text.strip_prefix("DeleteObjects request failed for key ");
    let of_one = of_one.and_then(|rest| rest.strip_prefix(location)?.strip_prefix(": "));
    if let Some(rest) = of_one {
        let (message, code) = rest.strip_suffix(')')?.rsplit_once(" (code: ")?;
        return Some((code, message));
    }
    let code = element(text, "Code")?;
    Some((code, element(text, "Message").unwrap_or_default()))
}

/// What the first element of XML of that name has.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once(&format!("</{name}>"))?;
    Some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_one(key: &str, message: &str, code: &str) -> Cause {
        let text = format!("DeleteObjects request failed for key {key}: {message} (code: {code})");
        Cause::Generic {
            store: "S3",
            source: text.into(),
        }
    }

    fn of_all(code: &str, message: &str) -> Cause {
        let text = format!(
            "Error performing POST http://a/retention?delete in 1ms - Server returned non-2xx \
             status code: 403 Forbidden: <?xml version=\"1.0\"?><Error><Code>{code}</Code>\
             <Message>{message}</Message><Resource>object lock</Resource></Error>"
        );
        Cause::PermissionDenied {
            path: "retention/a.db".to_owned(),
            source: text.into(),
        }
    }

    #[test]
    fn what_is_locked_is_told_by_its_code_and_not_by_any_text() {
        let key = "retention/object lock (code: ObjectLocked)/a.db";
        let location = Location::parse(key).unwrap();
        let locked = "Access Denied because object protected by object lock.";
        let worm = "Object is WORM protected and cannot be overwritten";
        for (cause, expected) in [
            (of_one(key, "no", "ObjectLocked"), Refusal::Locked),
            (of_one(key, locked, "AccessDenied"), Refusal::Locked),
            (of_one(key, worm, "InvalidRequest"), Refusal::Locked),
            (
                of_one(key, "Access Denied", "AccessDenied"),
                Refusal::Denied,
            ),
            (
                of_one(key, "try (code: ObjectLocked)", "SlowDown"),
                Refusal::Failed,
            ),
            (of_one(key, "retention", "InternalError"), Refusal::Failed),
            (of_one("another", locked, "AccessDenied"), Refusal::Failed),
            (of_all("AccessDenied", "Access Denied"), Refusal::Denied),
            (of_all("AccessDenied", locked), Refusal::Locked),
            (of_all("ExpiredToken", "immutable"), Refusal::Denied),
        ] {
            assert_eq!(Refusal::of(&cause, &location), expected, "{cause}");
        }
        let immutable = Cause::AlreadyExists {
            path: key.to_owned(),
            source: "409: <Error><Code>BlobImmutableDueToPolicy</Code></Error>".into(),
        };
        assert_eq!(Refusal::of(&immutable, &location), Refusal::Locked);
        // No answer at all, whatever it quotes.
        let away = Cause::Generic {
            store: "S3",
            source: format!("timed out for key {key}: no (code: ObjectLocked)").into(),
        };
        assert_eq!(Refusal::of(&away, &location), Refusal::Failed);
        let busy = Cause::AlreadyExists {
            path: key.to_owned(),
            source: "409: <Error><Code>OperationAborted</Code></Error>".into(),
        };
        assert_eq!(Refusal::of(&busy, &location), Refusal::Failed);
    }

    #[test]
    fn an_upload_that_is_gone_is_told_by_its_code_whatever_the_status() {
        let at = Location::parse("a.db").unwrap();
        let answer = |text: &str| Cause::Generic {
            store: "S3",
            source: text.to_owned().into(),
        };
        let gone = "400 Bad Request: <Error><Code>NoSuchUpload</Code></Error>";
        assert!(is_gone(&answer(gone), &at));
        let other = "400 Bad Request: <Error><Code>InvalidPart</Code></Error> NoSuchUpload";
        assert!(!is_gone(&answer(other), &at));
    }
}
