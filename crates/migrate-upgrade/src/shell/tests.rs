use std::path::Path;
use std::sync::Arc;

use migrate_core::{StepError, StepErrorKind};

use super::*;

const SOON: Duration = Duration::from_secs(20);
/// Everything that a shell could stumble over.
pub(super) const ODD: [&str; 6] = [
    "o'brien's \"node\" $(touch pwned) `id`",
    "",
    "-e",
    "two\nlines\t*",
    "$HOME ${x} \\ !! ; & | > <",
    "ünïcode",
];
const PRINT: &str = r#"printf '%s\0' "$@""#;

fn program(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    crate::testing::executable(&path, &format!("#!/bin/bash\n{text}\n"));
    path
}

/// An ssh that runs the remote words in a shell, as a server would.
fn fake_ssh(folder: &Path) -> Ssh {
    program(folder, "sudo", r#"[ "$1" = -n ]; shift; exec "$@""#);
    let text = format!(
        "PATH={}:$PATH; echo 'welcome to the node'; exec sh -c \"${{!#}}\"",
        folder.display()
    );
    Ssh::new().with_program(program(folder, "ssh", &text))
}

#[tokio::test]
async fn arguments_arrive_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let script = Script::new(PRINT).args(ODD);
    let shells: [Box<dyn NodeShell>; 2] =
        [Box::new(Local::new("n")), Box::new(fake_ssh(folder.path()))];
    for shell in shells {
        let output = shell.run("n", &script, SOON).await.unwrap();
        let words: Vec<&str> = output.stdout.trim_end_matches('\0').split('\0').collect();
        assert_eq!((output.code, words), (0, ODD.to_vec()));
    }
}

#[tokio::test]
async fn a_script_that_was_cut_off_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let script =
        Script::new("f() {\ntouch \"$1\"\n}\nf \"$1\"\necho done").arg(mark.display().to_string());
    let whole = script.stdin();
    for cut in 0..=whole.rfind('}').unwrap() {
        let mut bash = tokio::process::Command::new("bash");
        bash.args(["-euo", "pipefail", "-s", "--"]).arg(&mark);
        let part = whole.get(..cut).unwrap().to_owned();
        process::run(&mut bash, part, SOON).await.unwrap().unwrap();
        assert!(!mark.exists(), "cut at {cut}: {:?}", whole.get(..cut));
    }
    Local::new("n").run("n", &script, SOON).await.unwrap();
    assert!(mark.exists());
}

#[tokio::test]
async fn output_is_bounded_and_input_empty() {
    let script = Script::new(
        "cat; head -c 3000000 /dev/zero | tr '\\0' x; head -c 100000 /dev/zero | tr '\\0' y >&2; echo end >&2; exit 7",
    );
    let output = Local::new("n").run("n", &script, SOON).await.unwrap();
    assert_eq!(output.code, 7);
    assert!(output.stdout.len() <= 1 << 20 && output.stdout.len() > 1 << 19);
    assert!(output.stderr.len() <= 16 << 10 && output.stderr.ends_with("yend\n"));
}

#[tokio::test]
async fn what_takes_too_long_is_ended_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let script = Script::new("sleep 1000 & echo $! > \"$1\"; wait").arg(pid.display().to_string());
    let limit = Duration::from_millis(500);
    let error = Local::new("n").run("n", &script, limit).await.unwrap_err();
    assert!(matches!(error, Error::NodeTimeout { .. }), "{error}");
    assert_eq!(StepError::from(error).kind, StepErrorKind::Deadline);
    let child = std::fs::read_to_string(pid).unwrap();
    let state = format!("/proc/{}/stat", child.trim());
    while std::fs::read_to_string(&state).is_ok_and(|stat| !stat.contains(") Z ")) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn another_machine_is_not_this_one() {
    let error = Local::new("n").run("m", &Script::new("true"), SOON).await;
    assert!(matches!(error, Err(Error::UnknownNode { .. })));
    let (ssh, script) = (Ssh::new(), Script::new("true"));
    let error = ssh.run("-oProxyCommand=x", &script, SOON).await;
    assert!(matches!(error, Err(Error::UnknownNode { .. })));
}

#[tokio::test]
async fn each_node_is_reached_in_its_own_way() {
    let local = |node: &str| Arc::new(Local::new(node)) as Arc<dyn NodeShell>;
    let shell = PerNode::new(local("n")).with_node("own", local("own"));
    for node in ["n", "own"] {
        let output = shell.run(node, &Script::new("exit 3"), SOON).await;
        assert_eq!(output.unwrap().code, 3, "{node}");
    }
    let error = shell.run("m", &Script::new("true"), SOON).await;
    assert!(matches!(error, Err(Error::UnknownNode { .. })));
}

/// What ssh and sudo say when they refuse, and what that means.
#[tokio::test]
async fn refusals_are_told_apart() {
    use StepErrorKind::{Forbidden, Permanent, Unavailable};
    let cases = [
        (
            255,
            "ssh: connect to host n port 22: Connection refused",
            Unavailable,
            "out of reach",
        ),
        (
            255,
            "ssh: connect to host n port 22: Connection timed out",
            Unavailable,
            "out of reach",
        ),
        (
            255,
            "kex_exchange_identification: Connection closed by remote host",
            Unavailable,
            "out of reach",
        ),
        (
            255,
            "No ED25519 host key is known for n and you have requested strict checking.\nHost key verification failed.",
            Forbidden,
            "known_hosts",
        ),
        (
            255,
            "Host key verification failed.",
            Forbidden,
            "known_hosts",
        ),
        (
            255,
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @",
            Forbidden,
            "known_hosts",
        ),
        (
            255,
            "root@n: Permission denied (publickey,password).",
            Forbidden,
            "authorized_keys",
        ),
        (
            255,
            "/x: line 3: Bad configuration option: hots",
            Forbidden,
            "configuration of ssh",
        ),
        (
            255,
            "sudo: unable to resolve host n: Name or service not known\nclient_loop: send disconnect",
            Unavailable,
            "out of reach",
        ),
        (1, "sudo: a password is required", Forbidden, "NOPASSWD"),
        (1, "ops is not in the sudoers file.", Forbidden, "NOPASSWD"),
        (
            127,
            "bash: line 1: sudo: command not found",
            Forbidden,
            "NOPASSWD",
        ),
        (
            1,
            "This account is currently not available.",
            Permanent,
            "no script was begun",
        ),
    ];
    for (code, said, kind, names) in cases {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("cat >&2 <<'EOT'\n{said}\nEOT\nexit {code}");
        let ssh = Ssh::new().with_program(program(folder.path(), "ssh", &text));
        let error = ssh.run("n", &Script::new("true"), SOON).await.unwrap_err();
        let error = StepError::from(error);
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(names), "{error}");
    }
    // Once the script has begun, what it prints cannot be mistaken for that.
    let folder = tempfile::tempdir().unwrap();
    let ssh = fake_ssh(folder.path());
    let script = Script::new("echo 'sudo: Permission denied (publickey' >&2; exit 3");
    assert_eq!(ssh.run("n", &script, SOON).await.unwrap().code, 3);
    let cut = ssh
        .run("n", &Script::new("exit 255"), SOON)
        .await
        .unwrap_err();
    assert!(StepError::from(cut).is_retryable());
}

#[tokio::test]
async fn a_missing_ssh_is_named() {
    let ssh = Ssh::new().with_program("/does/not/exist");
    let error = ssh.run("n", &Script::new("true"), SOON).await.unwrap_err();
    assert!(matches!(error, Error::NoProgram { .. }), "{error}");
}

/// An ssh that takes `-W` as OpenSSH does, and notes its process and its words; it would
/// share its connection.
fn forwarding_ssh(folder: &Path) -> Ssh {
    let text = format!(
        "echo $$ >> {}\necho \"$*\" >> {}\nwhile [ \"$1\" != -W ]; do shift; done\n\
         exec 3<> \"/dev/tcp/${{2%:*}}/${{2##*:}}\"\ncat <&3 & cat >&3; wait",
        folder.join("pids").display(),
        folder.join("words").display()
    );
    let ssh = Ssh::new().with_program(program(folder, "ssh", &text));
    ssh.with_multiplexing(folder)
}

#[tokio::test]
async fn a_tunnel_carries_both_ways_and_leaves_no_process() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let folder = tempfile::tempdir().unwrap();
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let behind = server.local_addr().unwrap();
    let echo = tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    let ssh = forwarding_ssh(folder.path());
    let tunnel = ssh.tunnel("n", &behind.to_string()).await.unwrap();
    let open = async || tokio::net::TcpStream::connect(tunnel.address()).await;
    let mut streams = [open().await.unwrap(), open().await.unwrap()];
    for (number, stream) in streams.iter_mut().enumerate() {
        let sent = vec![u8::try_from(number).unwrap(); 200_000];
        let mut back = vec![9; sent.len()];
        let (mut from, mut to) = stream.split();
        let (written, read) = tokio::join!(to.write_all(&sent), from.read_exact(&mut back));
        written.unwrap();
        read.unwrap();
        assert!(back == sent, "{number}");
    }
    let pids = std::fs::read_to_string(folder.path().join("pids")).unwrap();
    let lives = |pid: &&str| Path::new("/proc").join(pid).join("exe").exists();
    assert_eq!(pids.lines().filter(lives).count(), 2, "{pids}");

    // A master in the background is in no group of ours.
    let words = std::fs::read_to_string(folder.path().join("words")).unwrap();
    assert!(words.contains("ControlMaster=no"), "{words}");

    drop(tunnel);
    let end = async {
        while pids.lines().any(|pid| lives(&pid)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let [mut first, _] = streams;
        assert_eq!(first.read(&mut [0]).await.unwrap_or(0), 0, "it is closed");
    };
    tokio::time::timeout(SOON, end).await.expect("an end");
    echo.abort();
    let error = ssh.tunnel("-oProxyCommand=x", "a:1").await.unwrap_err();
    assert!(matches!(error, Error::UnknownNode { .. }), "{error}");
}

#[tokio::test]
async fn scripts_for_others_give_what_was_printed_or_say_what_failed() {
    let run = scripts_on(Arc::new(Local::new("n")), "n", SOON);
    let said = run(
        "printf '%s-' \"$@\"",
        vec!["a b".to_owned(), "c".to_owned()],
    )
    .await;
    assert_eq!(said.unwrap(), "a b-c-");
    let error = run("echo no file >&2; exit 3", Vec::new())
        .await
        .unwrap_err();
    assert_eq!(error.object.name, "n");
    assert!(
        error.to_string().contains("exit code 3: no file"),
        "{error}"
    );
    let other = scripts_on(Arc::new(Local::new("n")), "m", SOON);
    assert!(other("true", Vec::new()).await.is_err());
}
