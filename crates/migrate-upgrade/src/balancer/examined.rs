//! What a backend of API servers means for an upgrade. Pure.

use std::collections::BTreeMap;

use migrate_core::{Finding, ObjectName, Severity, listed};

use super::configured::asks_readiness;

const SERVERS: &str = "KM-LB-002";
const CHECKS: &str = "KM-LB-003";
const ALONE: &str = "KM-LB-004";
const SILENT: &str = "KM-LB-006";
const PATH: &str = "KM-LB-007";
const READYZ: &str = "`option httpchk GET /readyz`, `http-check expect status 200`, and `check check-ssl` with the \
     cluster's authority at each server";
/// How many names a list shows.
const NAMES_SHOWN: usize = 5;
/// Between what several instances say.
const BETWEEN: &str = "; and ";

/// A server of the backend, as one instance tells.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Server {
    pub(super) name: String,
    /// Somebody has taken it out.
    pub(super) is_out: bool,
    /// It is in and counts as up.
    pub(super) takes_connections: bool,
}

/// The last health check of each server, by its name.
pub(super) type Checks = BTreeMap<String, Check>;

/// What `show stat` tells of a check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Check {
    /// `check_status`; empty where there are no checks.
    pub(super) last: String,
    /// `check_code`: what was answered over HTTP.
    pub(super) code: Option<u16>,
}

/// Which path checks ask for, which HAProxy itself does not tell.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Asks {
    /// By its configuration.
    Path(String),
    /// Not known, and why.
    Unknown(String),
}

/// The findings of one instance, `place`, whose `backend` has these servers;
/// `members` are the nodes of the control plane, each with its server's name.
/// Without `checks` nothing is said of them.
pub(super) fn judge(
    place: &str,
    backend: &str,
    servers: &[Server],
    checks: Option<&Checks>,
    asks: &Asks,
    members: &[(&str, &str)],
) -> Vec<Finding> {
    let mut found = Vec::new();
    let object = || ObjectName::cluster("LoadBalancer", backend);
    let known: Vec<&str> = servers.iter().map(|server| &*server.name).collect();
    for (member, server) in members {
        if !known.contains(server) {
            found.push(Finding::new(
                SERVERS,
                Severity::Blocker,
                ObjectName::cluster("Node", *member),
                format!(
                    "{place}: the backend {backend} has no server {server} for it, but {}: it \
                     cannot be taken out before it is changed",
                    listed(known.iter(), NAMES_SHOWN)
                ),
                "call the server as its node, or put one for it into the backend",
            ));
        }
    }
    let is_a_members = |name: &str| members.iter().any(|(_, server)| *server == name);
    let nobodys = known.iter().filter(|name| !is_a_members(name));
    let nobodys: Vec<&&str> = nobodys.collect();
    if !nobodys.is_empty() {
        found.push(Finding::new(
            SERVERS,
            Severity::Warning,
            object(),
            format!(
                "{place}: servers that are no control-plane node's: {}; they count as up while \
                 others are out, whatever stands behind them",
                listed(nobodys.iter(), NAMES_SHOWN)
            ),
            "take what is left over out of the backend, or call servers as their nodes",
        ));
    }
    if let Some(checks) = checks {
        found.extend(of_checks(place, object(), checks, &known));
        found.extend(of_path(place, object(), checks, asks, &known));
    }
    // One that is out already is not taken out.
    let alone = members.iter().filter(|(_, server)| {
        let own = servers.iter().find(|own| own.name == *server);
        let is_in = own.is_some_and(|own| !own.is_out);
        let mut others = servers.iter().filter(|other| other.name != *server);
        is_in && !others.any(|other| other.takes_connections)
    });
    let alone: Vec<&str> = alone.map(|(member, _)| *member).collect();
    if !alone.is_empty() {
        found.push(Finding::new(
            ALONE,
            Severity::Blocker,
            object(),
            format!(
                "{place}: no other server of the backend {backend} would be up while {} is out, so \
                 that it is not taken out",
                listed(alone.iter(), NAMES_SHOWN)
            ),
            "bring another one up; with a single control plane, run without the load balancer's flags",
        ));
    }
    found
}

/// A check that only opens a connection counts an API server as up while its
/// etcd is swapped, and while it still refuses everybody.
fn of_checks(
    place: &str,
    object: ObjectName,
    checks: &Checks,
    servers: &[&str],
) -> Option<Finding> {
    let blind = servers.iter().filter_map(|name| {
        let check = checks.get(*name)?;
        match (check.last.as_str(), check.code) {
            ("", _) => Some(format!("{name} (not checked)")),
            ("L4OK", _) => Some(format!("{name} (TCP)")),
            ("L6OK", _) => Some(format!("{name} (TLS)")),
            // It was taken for up all the same.
            ("L7OK", Some(code)) if code >= 300 => Some(format!("{name} (answers {code})")),
            _ => None,
        }
    });
    let blind: Vec<String> = blind.collect();
    (!blind.is_empty()).then(|| {
        Finding::new(
            CHECKS,
            Severity::Warning,
            object,
            format!(
                "{place}: health checks that do not ask the API server whether it is ready: {}",
                listed(blind.iter(), NAMES_SHOWN)
            ),
            READYZ,
        )
    })
}

/// An API server whose etcd is away answers 200 to `/livez` and to paths that ask
/// nothing of it.
fn of_path(
    place: &str,
    object: ObjectName,
    checks: &Checks,
    asks: &Asks,
    servers: &[&str],
) -> Option<Finding> {
    let mut own = servers.iter().filter_map(|name| checks.get(*name));
    if !own.any(|check| check.last.starts_with("L7")) {
        return None;
    }
    let (code, severity, evidence) = match asks {
        Asks::Path(path) if asks_readiness(path) => return None,
        Asks::Path(path) => (
            CHECKS,
            Severity::Warning,
            format!("{place}: health checks ask for {path}, not whether the API server is ready"),
        ),
        Asks::Unknown(why) => (
            PATH,
            Severity::Info,
            format!("{place}: whether health checks ask for /readyz is not known: {why}"),
        ),
    };
    Some(Finding::new(code, severity, object, evidence, READYZ))
}

/// What stands behind a program of the operator's is not looked at.
pub(super) fn behind(program: &str) -> Finding {
    Finding::new(
        PATH,
        Severity::Info,
        ObjectName::cluster("LoadBalancer", program),
        "how it checks API servers is not known: a program takes them out of it",
        READYZ,
    )
}

/// One finding for each code and object: what several instances, or several rules,
/// have to say of one follows each other in the first one's place.
pub(super) fn one_each(found: Vec<Finding>) -> Vec<Finding> {
    let mut all: Vec<Finding> = Vec::new();
    for finding in found {
        let is_alike =
            |other: &&mut Finding| other.code == finding.code && other.object == finding.object;
        let Some(first) = all.iter_mut().find(is_alike) else {
            all.push(finding);
            continue;
        };
        first.severity = first.severity.max(finding.severity);
        for (text, more) in [
            (&mut first.evidence, finding.evidence),
            (&mut first.cure, finding.cure),
        ] {
            if !text.split(BETWEEN).any(|part| part == more) && *text != more {
                text.push_str(BETWEEN);
                text.push_str(&more);
            }
        }
    }
    all
}

/// One that could not be asked, or whose answer is none.
pub(super) fn silent(backend: &str, said: impl Into<String>) -> Finding {
    let object = ObjectName::cluster("LoadBalancer", backend);
    let cure = "cure what it says, then look again";
    Finding::new(SILENT, Severity::Blocker, object, said, cure)
}

/// The checks of the servers of `backend` in what `show stat` tells as CSV;
/// `None` if it is something else.
pub(super) fn read_checks(text: &str, backend: &str) -> Option<Checks> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines
        .find_map(|line| line.strip_prefix("# "))?
        .split(',')
        .collect();
    let column = |name: &str| names.iter().position(|column| *column == name);
    let (of, server, check) = (
        column("pxname")?,
        column("svname")?,
        column("check_status")?,
    );
    let code = column("check_code");
    let rows = lines.filter_map(|line| {
        let words: Vec<&str> = line.split(',').collect();
        let name = *words.get(server)?;
        let is_server = *words.get(of)? == backend && !matches!(name, "FRONTEND" | "BACKEND");
        // A star marks a check that is under way; the word is of the last one.
        let last = words.get(check)?.trim_start_matches("* ");
        let last = last.to_owned();
        let code = code.and_then(|at| words.get(at)?.parse().ok());
        is_server.then(|| (name.to_owned(), Check { last, code }))
    });
    Some(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, is_out: bool, takes_connections: bool) -> Server {
        Server {
            name: name.to_owned(),
            is_out,
            takes_connections,
        }
    }

    fn up(names: &[&str]) -> Vec<Server> {
        names.iter().map(|name| server(name, false, true)).collect()
    }

    fn codes(servers: &[Server], checks: Option<&Checks>) -> Vec<(String, Severity)> {
        let members = [("cp-1", "cp-1"), ("cp-2", "cp-2")];
        let asks = Asks::Path("/readyz".to_owned());
        let found = judge("HAProxy", "api", servers, checks, &asks, &members);
        let codes = found.into_iter().map(|found| (found.code, found.severity));
        codes.collect()
    }

    #[test]
    fn each_rule_finds_its_case_and_nothing_else() {
        use Severity::{Blocker, Warning};
        let well = up(&["cp-1", "cp-2"]);
        assert_eq!(codes(&well, None), []);
        let found = |servers: &[Server]| codes(servers, None);
        let is = |code: &str, severity| [(code.to_owned(), severity)];
        let more = up(&["cp-1", "cp-2", "old"]);
        assert_eq!(found(&more), is(SERVERS, Warning));
        let less = up(&["cp-1", "cp-9"]);
        assert_eq!(
            found(&less),
            [is(SERVERS, Blocker), is(SERVERS, Warning)].concat()
        );
        let one_down = [server("cp-1", false, true), server("cp-2", false, false)];
        assert_eq!(found(&one_down), is(ALONE, Blocker));
        // One that is out stays out; the other would be the last.
        let one_out = [server("cp-1", false, true), server("cp-2", true, false)];
        assert_eq!(found(&one_out), is(ALONE, Blocker));
    }

    #[test]
    fn what_is_found_twice_of_one_object_is_one_finding_that_names_both() {
        let on = |code: &str, severity, name: &str, evidence: &str, cure: &str| {
            let object = ObjectName::cluster("LoadBalancer", name);
            Finding::new(code, severity, object, evidence, cure)
        };
        let (warning, blocker) = (Severity::Warning, Severity::Blocker);
        let found = one_each(vec![
            on(SERVERS, warning, "api", "one: old", "take it out"),
            on(CHECKS, warning, "api", "one: TCP", "ask"),
            on(SERVERS, blocker, "api", "other: new", "take it out"),
            on(SERVERS, warning, "api", "one: old", "or call it so"),
            on(SERVERS, warning, "web", "one: old", "take it out"),
        ]);
        let told: Vec<(&str, Severity, &str, &str)> = found
            .iter()
            .map(|it| (&*it.code, it.severity, &*it.evidence, &*it.cure))
            .collect();
        let cure = "take it out; and or call it so";
        assert_eq!(
            told,
            [
                (SERVERS, blocker, "one: old; and other: new", cure),
                (CHECKS, warning, "one: TCP", "ask"),
                (SERVERS, warning, "one: old", "take it out"),
            ]
        );
    }

    fn of(name: &str, last: &str) -> (String, Check) {
        let last = last.to_owned();
        (name.to_owned(), Check { last, code: None })
    }

    #[test]
    fn the_path_of_checks_is_told_if_it_is_another_one_or_not_known() {
        let well = up(&["cp-1", "cp-2"]);
        let members = [("cp-1", "cp-1"), ("cp-2", "cp-2")];
        let found = |last: &str, asks: &Asks| {
            let checks = [of("cp-1", last), of("cp-2", last)].into();
            let found = judge("HAProxy", "api", &well, Some(&checks), asks, &members);
            let codes = found.into_iter().map(|found| (found.code, found.severity));
            codes.collect::<Vec<_>>()
        };
        let (livez, readyz) = (Asks::Path("/livez".into()), Asks::Path("/readyz".into()));
        let unknown = Asks::Unknown("no file".to_owned());
        let warned = [(CHECKS.to_owned(), Severity::Warning)];
        assert_eq!(found("L7OK", &livez), warned);
        assert_eq!(found("L7STS", &livez), warned);
        assert_eq!(found("L7OK", &readyz), []);
        assert_eq!(found("L7OK", &unknown), [(PATH.to_owned(), Severity::Info)]);
        // It asks nothing: that is said instead.
        assert_eq!(found("L4OK", &unknown), warned);
    }

    #[test]
    fn a_check_that_is_content_with_a_refusal_is_told() {
        let well = up(&["cp-1", "cp-2"]);
        let checks = |code: u16| -> Checks {
            let mut checks: Checks = [of("cp-1", "L7OK"), of("cp-2", "L7OK")].into();
            checks
                .entry("cp-2".to_owned())
                .and_modify(|check| check.code = Some(code));
            checks
        };
        assert_eq!(codes(&well, Some(&checks(200))), []);
        let found = codes(&well, Some(&checks(403)));
        assert_eq!(found, [(CHECKS.to_owned(), Severity::Warning)]);
    }

    #[test]
    fn checks_that_do_not_ask_for_readiness_are_told() {
        let well = up(&["cp-1", "cp-2"]);
        let checks =
            |one: &str, other: &str| -> Checks { [of("cp-1", one), of("cp-2", other)].into() };
        for last in ["L7OK", "L7OKC", "L7STS", "L4CON", "L4TOUT", "INI"] {
            assert_eq!(codes(&well, Some(&checks(last, "L7OK"))), [], "{last}");
        }
        for last in ["L4OK", "L6OK", ""] {
            let found = codes(&well, Some(&checks("L7OK", last)));
            assert_eq!(found, [(CHECKS.to_owned(), Severity::Warning)], "{last}");
        }
    }

    #[test]
    fn checks_are_read_by_the_names_of_their_columns() {
        let text = "# pxname,svname,status,check_status,check_code,\n\
                    api,FRONTEND,OPEN,,,\napi,cp-1,UP,L7OK,200,\napi,cp-2,UP,* L4OK,,\n\
                    api,BACKEND,UP,,,\nweb,cp-1,UP,L4OK,,\n\n";
        let read = read_checks(text, "api").unwrap();
        let mut expected: Checks = [of("cp-1", "L7OK"), of("cp-2", "L4OK")].into();
        expected
            .entry("cp-1".to_owned())
            .and_modify(|check| check.code = Some(200));
        assert_eq!(read, expected);
        assert_eq!(read_checks("Unknown command.\n", "api"), None);
    }
}
