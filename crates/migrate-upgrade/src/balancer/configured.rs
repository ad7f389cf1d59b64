//! Which path HAProxy's health checks ask for, by its configuration. Pure.

use std::iter::Peekable;
use std::str::Chars;

/// What stands in a section of the configuration.
#[derive(Clone, Default)]
struct Checks {
    /// Of `option httpchk`; `/` if it names none.
    option: Option<Word>,
    /// Of `http-check send`, which goes before it.
    send: Option<Word>,
}

/// A word of a line as HAProxy takes it, without quotes and escapes.
#[derive(Clone, Default)]
struct Word {
    text: String,
    line: usize,
    /// Something of it comes from the environment of HAProxy, and is not in `text`.
    is_open: bool,
}

impl Word {
    fn known(&self) -> Result<&str, Unread> {
        if self.is_open {
            return Err(unread(self.line, "comes from the environment of HAProxy"));
        }
        Ok(&self.text)
    }
}

/// Words that begin a section (configuration manual, chapter 2.1).
const SECTIONS: [&str; 20] = [
    "acme",
    "backend",
    "cache",
    "crt-store",
    "defaults",
    "dynamic-update",
    "fcgi-app",
    "frontend",
    "global",
    "http-errors",
    "listen",
    "log-forward",
    "log-profile",
    "mailers",
    "peers",
    "program",
    "resolvers",
    "ring",
    "traces",
    "userlist",
];

/// What of a configuration cannot be told from its text.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line}: {why}")]
pub(super) struct Unread {
    line: usize,
    why: &'static str,
}

fn unread(line: usize, why: &'static str) -> Unread {
    Unread { line, why }
}

/// The path that the health checks of `backend` ask for in a configuration `text`;
/// `None` if that is not known: there is no such section here, it asks nothing over
/// HTTP, or it takes its defaults from a section with a name.
///
/// # Errors
/// The path or the name of a section comes from the environment of HAProxy, or a line
/// is one that HAProxy does not take.
pub(super) fn checked_path(text: &str, backend: &str) -> Result<Option<String>, Unread> {
    let mut defaults = Checks::default();
    let mut section = Checks::default();
    let mut is_it = false;
    let mut kind = String::new();
    for (at, line) in text.lines().enumerate() {
        let words = words(line, at + 1)?;
        let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        match texts.as_slice() {
            [first, rest @ ..] if SECTIONS.contains(first) => {
                if is_it {
                    break;
                }
                if kind == "defaults" {
                    defaults = section;
                }
                (*first).clone_into(&mut kind);
                // Each section of defaults begins anew.
                section = match *first {
                    "defaults" => Checks::default(),
                    _ => defaults.clone(),
                };
                let name = words
                    .get(1)
                    .filter(|_| matches!(*first, "backend" | "listen"));
                let is_named = match name {
                    Some(name) => name.known()? == backend,
                    None => false,
                };
                if is_named && rest.contains(&"from") {
                    return Ok(None);
                }
                is_it = is_named;
            }
            ["option", "httpchk", ..] => {
                let root = Word {
                    text: "/".to_owned(),
                    ..Word::default()
                };
                section.option = match &words[2..] {
                    [] => Some(root),
                    [path] | [_, path, ..] => Some(path.clone()),
                };
            }
            ["no", "option", "httpchk", ..] => section = Checks::default(),
            ["http-check", "send", ..] => {
                let mut pairs = words[2..].windows(2);
                let path = pairs.find(|pair| matches!(pair[0].text.as_str(), "uri" | "uri-lf"));
                section.send = path.map(|pair| pair[1].clone());
            }
            _ => {}
        }
    }
    let asked = section
        .send
        .filter(|_| section.option.is_some())
        .or(section.option);
    match asked.filter(|_| is_it) {
        Some(path) => Ok(Some(path.known()?.to_owned())),
        None => Ok(None),
    }
}

/// The words of a line (configuration manual, chapters 2.2, "Quoting and escaping",
/// and 2.3): nothing is special within single quotes; double quotes keep spaces,
/// single quotes and `#`, and are where variables are replaced; parts without a space
/// between them are one word; a backslash before anything else than what it can
/// escape stays.
fn words(line: &str, number: usize) -> Result<Vec<Word>, Unread> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote = None;
    let mut rest = line.chars().peekable();
    while let Some(next) = rest.next() {
        match (next, quote) {
            ('#', None) => break,
            (space, None) if space.is_ascii_whitespace() => {
                words.extend(word.take());
                continue;
            }
            _ => {}
        }
        let word = word.get_or_insert_with(|| Word {
            line: number,
            ..Word::default()
        });
        match (next, quote) {
            ('\'' | '"', None) => quote = Some(next),
            (_, Some(open)) if next == open => quote = None,
            ('\\', None | Some('"')) => {
                let is_weak = quote.is_some();
                let escaped = escaped(&mut rest, is_weak).map_err(|why| unread(number, why))?;
                word.text.push(escaped);
            }
            ('$', Some('"')) => word.is_open = true,
            _ => word.text.push(next),
        }
    }
    if quote.is_some() {
        return Err(unread(number, "a quote is not closed"));
    }
    words.extend(word);
    Ok(words)
}

/// What a backslash and what follows it stand for.
fn escaped(rest: &mut Peekable<Chars<'_>>, is_weak: bool) -> Result<char, &'static str> {
    let stands_for = match rest.peek() {
        Some(next @ (' ' | '\\' | '#' | '\'' | '"')) => *next,
        Some('$') if is_weak => '$',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('x') => {
            rest.next();
            let mut digit = || rest.next()?.to_digit(16);
            let code = digit().zip(digit()).map(|(high, low)| high * 16 + low);
            return code
                .and_then(char::from_u32)
                .ok_or("\\x has no two hexadecimal digits");
        }
        _ => return Ok('\\'),
    };
    rest.next();
    Ok(stands_for)
}

/// Whether it is the path by which an API server says that it serves.
pub(super) fn asks_readiness(path: &str) -> bool {
    path.split('?').next() == Some("/readyz")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Option<String> {
        checked_path(text, "api").unwrap()
    }

    /// What HAProxy itself makes of such lines.
    #[test]
    fn quotes_and_escapes_are_those_of_the_manual() {
        for (line, expected) in [
            ("option httpchk GET '/readyz'", "/readyz"),
            ("option httpchk GET \"/readyz\"", "/readyz"),
            ("option \"httpchk\" 'GET' /ready'z'", "/readyz"),
            ("option httpchk GET \"/ready\"'z'", "/readyz"),
            ("option httpchk GET /readyz#x", "/readyz"),
            ("option httpchk GET /readyz\\#x", "/readyz#x"),
            ("option httpchk GET '/readyz # x'", "/readyz # x"),
            ("option httpchk GET /readyz\\ x", "/readyz x"),
            ("option httpchk GET '/readyz\\ x'", "/readyz\\ x"),
            ("option httpchk GET \"/it's\\\"\\\\\"", "/it's\"\\"),
            ("option httpchk GET /it\\'s", "/it's"),
            ("option httpchk GET \\x2freadyz\\1", "/readyz\\1"),
            ("option httpchk GET \\\"", "\""),
            // Variables are replaced within double quotes only.
            ("option httpchk GET '/$A'", "/$A"),
            ("option httpchk GET /$A", "/$A"),
            ("option httpchk GET \"/\\$A\"", "/$A"),
            ("option httpchk GET ''", ""),
            (
                "option httpchk\n http-check send body 'a uri /x' uri \"/y\"",
                "/y",
            ),
        ] {
            let text = format!("log \"${{SINK}}\" '#'\nbackend 'api'\n {line}\nbackend \"b\"\n");
            assert_eq!(path(&text).as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn what_only_the_environment_knows_and_what_is_broken_is_not_guessed() {
        let told = |text: &str| checked_path(text, "api").unwrap_err().to_string();
        let of_path = "backend api\n option httpchk GET \"${CHECK}\"\n";
        let of_send = "backend api\n option httpchk\n http-check send uri \"/$X\"\n";
        let of_name = "\nbackend \"$NAME\"\n option httpchk GET /readyz\n";
        for (text, line) in [(of_path, 2), (of_send, 3), (of_name, 2)] {
            let says = format!("line {line}: comes from the environment of HAProxy");
            assert_eq!(told(text), says);
        }
        for open in ["'", "\"", "\"\\\""] {
            let text = format!("backend api\n option httpchk GET {open}/readyz\n");
            assert_eq!(told(&text), "line 2: a quote is not closed");
        }
        let hex = "backend api\n option httpchk GET \\x2g\n";
        assert!(told(hex).contains("two hexadecimal digits"));
        // Nor does a variable elsewhere matter.
        let elsewhere = "backend api\n server a \"$A\"\n option httpchk GET /readyz\n";
        assert_eq!(path(elsewhere).as_deref(), Some("/readyz"));
    }

    #[test]
    fn the_path_is_read_where_the_backend_has_it_or_its_defaults() {
        let is = |text: &str, expected: &str| {
            assert_eq!(path(text).as_deref(), Some(expected), "{text}")
        };
        let web = "backend web\n  option httpchk GET /web\n";
        let api = "backend api\n  balance roundrobin\n  option httpchk GET /readyz # asks\n";
        is(&format!("{web}{api}"), "/readyz");
        is(&format!("{api}{web}"), "/readyz");
        is("listen api\n option httpchk /livez\n", "/livez");
        is("backend api\n option httpchk\n", "/");
        is(
            "backend api\n option httpchk\n http-check send meth GET uri /readyz?verbose hdr Host x\n",
            "/readyz?verbose",
        );
        let defaults = "defaults\n option httpchk GET /livez\n";
        is(&format!("{defaults}backend api\n"), "/livez");
        is(&format!("{defaults}{api}"), "/readyz");
        for unknown in [
            String::new(),
            web.to_owned(),
            format!("{defaults}defaults\n mode tcp\nbackend api\n"),
            format!("{defaults}backend api\n no option httpchk\n"),
            "backend api\n # option httpchk GET /readyz\n".to_owned(),
            "defaults d\n option httpchk GET /x\nbackend api from d\n".to_owned(),
        ] {
            assert_eq!(path(&unknown), None, "{unknown}");
        }
    }

    #[test]
    fn only_readyz_as_a_whole_says_that_it_serves() {
        assert!(asks_readiness("/readyz") && asks_readiness("/readyz?exclude=x"));
        for other in ["/", "/livez", "/healthz", "/readyz/ping", "/readyzz"] {
            assert!(!asks_readiness(other), "{other}");
        }
    }
}
