//! Which flags go together, wherever they stand: clap itself judges those before
//! a subcommand and those after it apart.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches as _};

use crate::cli::Cli;

/// A flag, and those that it is nothing without.
const NEEDS: [(&str, &[&str]); 23] = [
    ("ssh-config", &["kubeadm"]),
    ("job-image", &["kubeadm"]),
    ("job-nodes", &["job-image"]),
    ("job-namespace", &["job-image"]),
    ("ignore-preflight-errors", &["kubeadm"]),
    ("binaries", &["kubeadm"]),
    ("kubeadm-patches", &["kubeadm"]),
    ("kubeadm-skip-phases", &["kubeadm"]),
    ("haproxy-socket", &["kubeadm", "haproxy-backend"]),
    ("haproxy-tcp", &["kubeadm", "haproxy-backend"]),
    ("haproxy-ssh", &["kubeadm", "haproxy-backend"]),
    ("haproxy-backend", &["kubeadm"]),
    ("haproxy-config", &["kubeadm", "haproxy-backend"]),
    ("api-server-hook", &["kubeadm"]),
    ("etcd-only-named", &["etcd"]),
    ("etcd-ca", &["etcd"]),
    ("etcd-cert", &["etcd-ca", "etcd-key"]),
    ("etcd-key", &["etcd-ca", "etcd-cert"]),
    ("etcd-user", &["etcd", "etcd-password-file"]),
    ("etcd-password-file", &["etcd", "etcd-user"]),
    ("backup-recipient", &["backup-sign"]),
    ("backup-passphrase-file", &["backup-sign"]),
    ("backup-trusted", &["backup-store"]),
];

/// A flag, and those that say otherwise.
const EXCLUDES: [(&str, &[&str]); 7] = [
    ("in-cluster", &["kubeconfig", "context"]),
    ("kubeadm", &["node-hook", "control-plane-hook"]),
    // What is adopted is done in part.
    ("plan", &["adopt"]),
    (
        "api-server-hook",
        &[
            "haproxy-backend",
            "haproxy-socket",
            "haproxy-tcp",
            "haproxy-ssh",
        ],
    ),
    ("backup-recipient", &["backup-passphrase-file"]),
    (
        "backup-trusted",
        &[
            "etcd",
            "backup-recipient",
            "backup-passphrase-file",
            "backup-sign",
            "backup-trial-etcd",
            "backup-least-rate",
        ],
    ),
    (
        "no-backup",
        &[
            "etcd",
            "backup-recipient",
            "backup-passphrase-file",
            "backup-sign",
            "backup-store",
            "backup-trusted",
            "backup-trial-etcd",
            "backup-least-rate",
        ],
    ),
];

impl Cli {
    /// Reads arguments, of which the first is the program's name.
    pub(crate) fn read<I>(args: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item: Into<OsString> + Clone>,
    {
        let matches = flags().try_get_matches_from(args)?;
        go_together(&matches)?;
        Self::from_arg_matches(&matches)
    }
}

fn flags() -> Command {
    <Cli as CommandFactory>::command()
}

fn go_together(matches: &ArgMatches) -> Result<(), clap::Error> {
    let is_given = |flag: &str| {
        let source = matches.value_source(&flag.replace('-', "_"));
        source == Some(ValueSource::CommandLine)
    };
    let refuse = |kind, text: String| Err(flags().error(kind, text));
    for (flag, needed) in NEEDS.iter().filter(|(flag, _)| is_given(flag)) {
        if let Some(missing) = needed.iter().find(|needed| !is_given(needed)) {
            let text = format!("--{flag} is nothing without --{missing}: give that too");
            return refuse(ErrorKind::MissingRequiredArgument, text);
        }
    }
    for (flag, others) in EXCLUDES.iter().filter(|(flag, _)| is_given(flag)) {
        if let Some(other) = others.iter().find(|other| is_given(other)) {
            let text = format!("--{flag} cannot be used with --{other}: leave one of them out");
            return refuse(ErrorKind::ArgumentConflict, text);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Cli, clap::Error> {
        Cli::read([&["upgrade"], words].concat())
    }

    #[test]
    fn flags_go_together_on_either_side_of_a_command() {
        let kinds = |words: &[&str]| read(words).map(drop).map_err(|error| error.kind());
        for words in [
            ["--kubeadm", "check", "--ssh-config", "a"],
            ["--ssh-config", "a", "check", "--kubeadm"],
        ] {
            let cli = read(&words).unwrap();
            assert!(cli.kubeadm && cli.ssh_config.is_some(), "{words:?}");
            let without = words.iter().filter(|word| **word != "--kubeadm");
            let without: Vec<&str> = without.copied().collect();
            let missing = Err(ErrorKind::MissingRequiredArgument);
            assert_eq!(kinds(&without), missing, "{without:?}");
        }
        let conflict = Err(ErrorKind::ArgumentConflict);
        assert_eq!(kinds(&["--kubeadm", "check", "--node-hook", "a"]), conflict);
        assert_eq!(kinds(&["--node-hook", "a", "check", "--kubeadm"]), conflict);
        // A default is nobody's word.
        assert_eq!(kinds(&["check"]), Ok(()));
    }

    #[test]
    fn a_ca_of_etcd_goes_without_a_client_certificate_and_that_not_without_its_key() {
        let kinds = |words: &str| {
            let words: Vec<_> = words.split(' ').collect();
            read(&words).map(drop).map_err(|error| error.kind())
        };
        let missing = Err(ErrorKind::MissingRequiredArgument);
        assert_eq!(kinds("check --etcd e --etcd-ca a"), Ok(()));
        assert_eq!(
            kinds("check --etcd e --etcd-ca a --etcd-cert b --etcd-key c"),
            Ok(())
        );
        assert_eq!(kinds("check --etcd e --etcd-only-named"), Ok(()));
        assert_eq!(kinds("check --etcd-only-named"), missing);
        assert_eq!(kinds("check --etcd e --etcd-ca a --etcd-cert b"), missing);
        assert_eq!(kinds("check --etcd e --etcd-cert b --etcd-key c"), missing);
    }

    #[test]
    fn a_user_of_etcd_goes_with_its_password_and_neither_without_a_member() {
        let kinds = |words: &str| {
            let words: Vec<_> = words.split(' ').collect();
            read(&words).map(drop).map_err(|error| error.kind())
        };
        let missing = Err(ErrorKind::MissingRequiredArgument);
        let both = "--etcd-user root --etcd-password-file p";
        assert_eq!(kinds(&format!("check --etcd e {both}")), Ok(()));
        assert_eq!(kinds(&format!("--etcd e check {both}")), Ok(()));
        assert_eq!(kinds(&format!("check --kubeadm {both}")), missing);
        assert_eq!(kinds("check --etcd e --etcd-user root"), missing);
        assert_eq!(kinds("check --etcd e --etcd-password-file p"), missing);
    }

    #[test]
    fn every_name_is_a_flag() {
        let command = flags();
        let known = |flag: &&str| {
            let mut flags = command.get_arguments();
            flags.any(|arg| arg.get_long() == Some(*flag))
        };
        for (flag, others) in NEEDS.iter().chain(&EXCLUDES) {
            assert!(
                known(flag) && others.iter().all(|other| known(other)),
                "{flag}"
            );
        }
    }
}
