//! What a step has said since it was last looked at, for people. Pure.

/// Lines that are told of one look at most: the newest.
const MOST_LINES: usize = 20;
/// Characters that are told of a line at most.
const LONGEST_LINE: usize = 200;
/// Words after which the rest of a line is nobody's business.
const KEYS: [&str; 8] = [
    "authorization",
    "certificate-key",
    "client-key-data",
    "credentials",
    "passwd",
    "password",
    "secret",
    "token",
];
/// What stands in place of what is not told.
const REDACTED: &str = "[redacted]";
/// A word of this many letters and digits is a key, and no name.
const KEY_LENGTH: usize = 60;

/// How far the log of an action was told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Heard {
    /// The attempt whose log it is.
    pub(crate) attempt: u32,
    /// Bytes of it, which end with a line.
    pub(crate) bytes: u64,
}

/// What is new in the log of an action.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct News {
    /// How far that is.
    pub(crate) heard: Heard,
    /// The new lines, within bounds, without what looks like a secret.
    pub(crate) lines: Vec<String>,
}

impl News {
    /// Of a log, of which `text` begins at the byte `from`; `has_ended` if its
    /// last line needs no end.
    pub(crate) fn read(heard: Heard, attempt: u32, from: u64, text: &str, has_ended: bool) -> Self {
        let known = match heard.attempt == attempt {
            true => heard.bytes,
            false => 0,
        };
        let skipped = usize::try_from(known.saturating_sub(from)).unwrap_or(usize::MAX);
        let new = text.get(skipped.min(text.len())..).unwrap_or(text);
        // A line that is still being written comes whole with the next look.
        let whole = match has_ended {
            true => new.len(),
            false => new.rfind('\n').map_or(0, |end| end + 1),
        };
        let new = new.get(..whole).unwrap_or_default();
        let end = from.max(known) + u64::try_from(whole).unwrap_or_default();
        Self {
            heard: Heard {
                attempt,
                bytes: end,
            },
            lines: bounded(new),
        }
    }
}

/// The newest lines, and how many came before them.
pub(crate) fn bounded(text: &str) -> Vec<String> {
    let mut hides = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        // Of a key in PEM nothing but that it is one.
        hides |= line.contains("-----BEGIN");
        let told = match hides {
            true => REDACTED.to_owned(),
            false => told(line),
        };
        hides &= !line.contains("-----END");
        let is_again = told == REDACTED && lines.last() == Some(&told);
        if !told.trim().is_empty() && !is_again {
            lines.push(told);
        }
    }
    let left_out = lines.len().saturating_sub(MOST_LINES);
    if left_out > 0 {
        let note = format!("({left_out} lines before these are in the log on the node)");
        lines.splice(..left_out, [note]);
    }
    lines
}

/// One line, without secrets, escapes and what is beyond the bound.
fn told(line: &str) -> String {
    let plain: String = line
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let line = redacted(plain.trim_end());
    match line.char_indices().nth(LONGEST_LINE) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// The line without what looks like a secret: too much rather than too little.
pub(crate) fn redacted(line: &str) -> String {
    let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '=' | ',');
    let (mut told, mut after) = (String::new(), line);
    for piece in line.split_inclusive(is_end) {
        let word = piece.trim_end_matches(is_end);
        let end = piece.get(word.len()..).unwrap_or_default();
        after = after.get(piece.len()..).unwrap_or_default();
        if let Some(shown) = named(word, end, after) {
            // Nobody knows where the value ends.
            told.push_str(&format!("{shown}{end}{REDACTED}"));
            return told;
        }
        match is_secret(word) {
            true => told.push_str(REDACTED),
            false => told.push_str(&without_login(word)),
        }
        told.push_str(end);
    }
    told
}

/// What of `word` is no secret, if it names one that follows: `password=…`,
/// `token: …`, `secret:…`, `"token": "…"`, `--token …`, `Bearer …`.
fn named<'a>(word: &'a str, end: &str, after: &str) -> Option<&'a str> {
    let (name, shown, is_split) = match word.split_once(':') {
        Some((name, _)) => (name, word.get(..=name.len())?, true),
        None => (word, word, false),
    };
    let name = name.to_ascii_lowercase();
    let has_value = || {
        is_split
            || name.starts_with("--")
            || end.starts_with('=')
            || after.trim_start().starts_with([':', '='])
    };
    let is_key = KEYS.iter().any(|key| name.ends_with(key)) && has_value();
    (is_key || name == "bearer").then_some(shown)
}

/// Bootstrap tokens, tokens of service accounts, keys in hexadecimal or base64.
/// The digest of an image is none.
fn is_secret(word: &str) -> bool {
    let of = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let is_bootstrap = bare
        .split_once('.')
        .is_some_and(|(id, secret)| of(id, 6) && of(secret, 16));
    let is_jwt = bare.starts_with("eyJ") && bare.matches('.').count() == 2;
    let is_long = word.len() >= KEY_LENGTH
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    is_bootstrap || is_jwt || is_long
}

/// `https://user:password@host` without the two.
fn without_login(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    let host = rest.split('/').next().unwrap_or_default();
    match host.rsplit_once('@') {
        Some((login, _)) => {
            let rest = rest.get(login.len()..).unwrap_or_default();
            format!("{scheme}://{REDACTED}{rest}")
        }
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_told() {
        let hex = "0123456789abcdef".repeat(4);
        let base64 = format!("MIIEpAIBAAKCAQEA{}", "x9+/".repeat(12));
        let jwt = "eyJhbGciOi.eyJpc3Mi.c2lnbmF0dXJl";
        for (line, secret) in [
            (
                "join --token abcdef.0123456789abcdef --x".to_owned(),
                "abcdef",
            ),
            ("use abcdef.0123456789abcdef, now".to_owned(), "0123456789"),
            (format!("Authorization: Bearer {jwt}"), "eyJ"),
            (format!("got bearer {jwt}"), "eyJ"),
            (format!("the token is {jwt}."), "eyJ"),
            (format!("--certificate-key {hex}"), &hex),
            (format!("key {hex} uploaded"), &hex),
            (format!("data \"{base64}\""), "MIIE"),
            (
                "HTTPS_PROXY=http://me:hush@proxy:8080/ set".to_owned(),
                "hush",
            ),
            ("DB_PASSWORD='hush hush'".to_owned(), "hush"),
            ("password:hush".to_owned(), "hush"),
            ("password = hush".to_owned(), "hush"),
            ("{\"password\": \"hush\"}".to_owned(), "hush"),
            ("client-secret: hush".to_owned(), "hush"),
        ] {
            let told = told(&line);
            assert!(!told.contains(secret), "{told}");
            assert!(told.contains(REDACTED), "{told}");
        }
        let pem =
            format!("a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n{base64}\n-----END RSA-----\nb\n");
        assert_eq!(bounded(&pem), ["a", REDACTED, "b"]);
    }

    #[test]
    fn what_kubeadm_says_is_told_as_it_is() {
        let digest = "0123456789abcdef".repeat(4);
        for line in [
            "[upgrade/versions] Target version: v1.37.2".to_owned(),
            "[bootstrap-token] Configured RBAC rules to allow Node Bootstrap tokens to post CSRs"
                .to_owned(),
            "[kubelet-start] Writing \"/var/lib/kubelet/config.yaml\"".to_owned(),
            format!("pulled registry.k8s.io/etcd:3.6@sha256:{digest}"),
            "Setting up kubelet (1.37.2-1.1) ...".to_owned(),
            "see https://kubernetes.io/docs/ for more".to_owned(),
            "secret \"bootstrap\" created".to_owned(),
        ] {
            assert_eq!(told(&line), line);
        }
        assert_eq!(told("\u{1b}[31mred\u{7}"), " [31mred");
    }

    #[test]
    fn lines_are_told_once_and_whole() {
        let first = News::read(Heard::default(), 1, 0, "one\ntwo\nthr", false);
        assert_eq!(first.lines, ["one", "two"]);
        assert_eq!(
            first.heard,
            Heard {
                attempt: 1,
                bytes: 8
            }
        );
        // Asked from there on; then the end, of which more is shown again.
        let second = News::read(first.heard, 1, 8, "three\nf", false);
        assert_eq!(second.lines, ["three"]);
        let last = News::read(second.heard, 1, 4, "two\nthree\nfour", true);
        assert_eq!(last.lines, ["four"]);
        assert_eq!(last.heard.bytes, 18);
        assert_eq!(
            News::read(last.heard, 1, 4, "two\nthree\nfour", true).lines,
            [""; 0]
        );
        // Another attempt begins anew, and one that says much is cut.
        let other = News::read(last.heard, 2, 0, "one\n", false);
        assert_eq!(
            (other.lines.as_slice(), other.heard.attempt),
            (&["one".to_owned()][..], 2)
        );
        let skipped = News::read(Heard::default(), 1, 500, "x\n", false);
        assert_eq!(skipped.heard.bytes, 502);
    }

    #[test]
    fn lines_are_bounded_in_number_and_length() {
        let many: String = (0..MOST_LINES + 3)
            .map(|line| format!("{line}\n"))
            .collect();
        let lines = bounded(&many);
        assert_eq!(lines.len(), MOST_LINES + 1);
        assert!(lines[0].starts_with("(3 lines before"), "{lines:?}");
        assert_eq!(lines[1], "3");
        let long = told(&"ä ".repeat(LONGEST_LINE));
        assert_eq!(long.chars().count(), LONGEST_LINE + 1);
    }
}
