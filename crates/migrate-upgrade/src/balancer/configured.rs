//! Which path HAProxy's health checks ask for, by its configuration. Pure.

/// What stands in a section of the configuration.
#[derive(Clone, Default)]
struct Checks {
    /// Of `option httpchk`; `/` if it names none.
    option: Option<String>,
    /// Of `http-check send`, which goes before it.
    send: Option<String>,
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

/// The path that the health checks of `backend` ask for in a configuration `text`;
/// `None` if that is not known: there is no such section here, it asks nothing over
/// HTTP, or it takes its defaults from a section with a name.
pub(super) fn checked_path(text: &str, backend: &str) -> Option<String> {
    let mut defaults = Checks::default();
    let mut section = Checks::default();
    let mut is_it = false;
    let mut kind = "";
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let words = words
            .split(|word| word.starts_with('#'))
            .next()
            .unwrap_or_default();
        match words {
            [first, rest @ ..] if SECTIONS.contains(first) => {
                if is_it {
                    break;
                }
                if kind == "defaults" {
                    defaults = section;
                }
                kind = *first;
                // Each section of defaults begins anew.
                section = match kind {
                    "defaults" => Checks::default(),
                    _ => defaults.clone(),
                };
                let is_named =
                    matches!(*first, "backend" | "listen") && rest.first() == Some(&backend);
                if is_named && rest.contains(&"from") {
                    return None;
                }
                is_it = is_named;
            }
            ["option", "httpchk", rest @ ..] => {
                let path = match rest {
                    [] => "/",
                    [path] | [_, path, ..] => *path,
                };
                section.option = Some(path.to_owned());
            }
            ["no", "option", "httpchk", ..] => section = Checks::default(),
            ["http-check", "send", rest @ ..] => {
                let mut pairs = rest.windows(2);
                let path = pairs.find(|pair| matches!(pair[0], "uri" | "uri-lf"));
                section.send = path.map(|pair| pair[1].to_owned());
            }
            _ => {}
        }
    }
    if !is_it {
        return None;
    }
    let option = section.option?;
    Some(section.send.unwrap_or(option))
}

/// Whether it is the path by which an API server says that it serves.
pub(super) fn asks_readiness(path: &str) -> bool {
    path.split('?').next() == Some("/readyz")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Option<String> {
        checked_path(text, "api")
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
