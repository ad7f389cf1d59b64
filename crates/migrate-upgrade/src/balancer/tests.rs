use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;
use crate::Local;

fn fence() -> Fence {
    Fence::new("run-1", 7)
}

/// An HAProxy with the servers cp-1 and cp-2, as far as the commands go. What
/// it says is what HAProxy 2.6 says.
struct Fake {
    folder: tempfile::TempDir,
    states: Arc<Mutex<[u32; 2]>>,
    up: Arc<Mutex<[u32; 2]>>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("sock")).unwrap();
        let fake = Self {
            folder,
            states: Arc::default(),
            up: Arc::new(Mutex::new([RUNNING; 2])),
            told: Arc::default(),
        };
        let (states, up, told) = (fake.states.clone(), fake.up.clone(), fake.told.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut line = Vec::new();
                while !line.ends_with(b"\n") && stream.read_buf(&mut line).await.unwrap() > 0 {}
                let line = String::from_utf8(line).unwrap();
                told.lock().unwrap().push(line.trim().to_owned());
                let answer = answer(
                    line.trim(),
                    &mut states.lock().unwrap(),
                    &up.lock().unwrap(),
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        fake
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("sock")
    }

    fn haproxy(&self) -> Haproxy {
        let haproxy = Haproxy::new("api").with_drain_time(Duration::ZERO);
        haproxy.with_socket(self.socket())
    }

    fn states(&self) -> [u32; 2] {
        *self.states.lock().unwrap()
    }
}

const RUNNING: u32 = 2;
const MAINTENANCE: u32 = 1;
const DRAIN: u32 = 8;

fn answer(command: &str, states: &mut [u32; 2], up: &[u32; 2]) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    let server = |name: &str| match name {
        "api/cp-1" => Ok(0),
        "api/cp-2" => Ok(1),
        _ => Err("No such server.\n\n".to_owned()),
    };
    let obeyed = match words.as_slice() {
        ["show", "servers", "state", "api"] => {
            return format!(
                "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight\n\
                 3 api 1 cp-1 10.77.0.11 {} {} 1\n3 api 2 cp-2 10.77.0.12 {} {} 1\n\n",
                up[0], states[0], up[1], states[1]
            );
        }
        ["show", "stat"] => {
            return "# pxname,svname,check_status,\napi,cp-1,L7OK,\napi,cp-2,L4OK,\n\n".to_owned();
        }
        ["show", ..] => Err("Can't find backend.\n\n".to_owned()),
        ["set", "server", name, "state", state] => server(name).map(|at| {
            states[at] = match *state {
                "ready" => 0,
                "drain" => DRAIN,
                _ => MAINTENANCE,
            }
        }),
        ["shutdown", "sessions", "server", name] => server(name).map(drop),
        _ => Err("Unknown command.\n".to_owned()),
    };
    match obeyed {
        Ok(()) => "\n".to_owned(),
        Err(said) => said,
    }
}

#[tokio::test]
async fn a_server_is_drained_taken_out_and_put_back() {
    let fake = Fake::start();
    let haproxy = fake.haproxy();
    assert_eq!(
        haproxy.quiesce("cp-1", &fence()).await.unwrap(),
        Standing::WasIn
    );
    assert_eq!(fake.states(), [MAINTENANCE, 0]);
    let told = fake.told.lock().unwrap().join("; ");
    assert_eq!(
        told,
        "show servers state api; set server api/cp-1 state drain; set server api/cp-1 state maint; \
         shutdown sessions server api/cp-1"
    );
    // Again: it is out, whoever did that.
    assert_eq!(
        haproxy.quiesce("cp-1", &fence()).await.unwrap(),
        Standing::WasOut
    );
    for _ in 0..2 {
        haproxy.restore("cp-1", &fence()).await.unwrap();
        assert_eq!(fake.states(), [0, 0]);
    }
}

#[tokio::test]
async fn the_last_server_is_not_taken_out() {
    let fake = Fake::start();
    *fake.up.lock().unwrap() = [RUNNING, 0];
    let error = fake
        .haproxy()
        .quiesce("cp-1", &fence())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("no other server"), "{error}");
    *fake.up.lock().unwrap() = [RUNNING; 2];
    *fake.states.lock().unwrap() = [0, MAINTENANCE];
    assert!(fake.haproxy().quiesce("cp-1", &fence()).await.is_err());
    assert_eq!(fake.states(), [0, MAINTENANCE]);
}

#[tokio::test]
async fn before_the_start_every_instance_is_looked_at_and_none_changed() {
    let fake = Fake::start();
    let members = ["cp-1".to_owned(), "cp-2".to_owned()];
    let haproxy = fake.haproxy().with_socket("/does/not/exist");
    let found = haproxy.examine(&members).await;
    let codes: Vec<&str> = found.iter().map(|found| &*found.code).collect();
    assert_eq!(codes, ["KM-LB-003", "KM-LB-007", "KM-LB-006"]);
    assert!(found[0].evidence.contains("cp-2 (TCP)"), "{}", found[0]);
    assert!(
        found[2].evidence.contains("/does/not/exist"),
        "{}",
        found[2]
    );
    // Its configuration says which path.
    let file = fake.folder.path().join("haproxy.cfg");
    for (path, asks) in [("/livez", true), ("/readyz", false), ("'/readyz'", false)] {
        std::fs::write(&file, format!("backend api\n option httpchk GET {path}\n")).unwrap();
        let haproxy = fake.haproxy().with_configuration(file.to_str().unwrap());
        let found = haproxy.examine(&members).await;
        // Whatever is wrong with its checks is one finding.
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].code, "KM-LB-003");
        let evidence = &found[0].evidence;
        assert!(evidence.contains("cp-2 (TCP)"), "{evidence}");
        assert_eq!(evidence.contains("ask for /livez"), asks, "{evidence}");
    }
    // Two instances of one backend too, and each is named.
    let other = Fake::start();
    let both = fake.haproxy().with_socket(other.socket());
    let found = both.examine(&members).await;
    let codes: Vec<&str> = found.iter().map(|found| &*found.code).collect();
    assert_eq!(codes, ["KM-LB-003", "KM-LB-007"]);
    for socket in [fake.socket(), other.socket()] {
        let named = found[0].evidence.contains(socket.to_str().unwrap());
        assert!(named, "{}", found[0]);
    }
    *fake.up.lock().unwrap() = [RUNNING, 0];
    let found = fake.haproxy().examine(&members).await;
    assert!(
        found.iter().any(|found| found.code == "KM-LB-004"),
        "{found:?}"
    );
    // What `examine` says is what `quiesce` then does.
    assert!(fake.haproxy().quiesce("cp-1", &fence()).await.is_err());
    let told = fake.told.lock().unwrap();
    assert!(
        told.iter().all(|command| command.starts_with("show ")),
        "{told:?}"
    );
}

#[tokio::test]
async fn an_instance_is_reached_over_tcp() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let states = Arc::new(Mutex::new([0; 2]));
    let seen = Arc::clone(&states);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = tokio::io::BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            let said = answer(line.trim(), &mut seen.lock().unwrap(), &[RUNNING; 2]);
            stream.write_all(said.as_bytes()).await.unwrap();
        }
    });
    let haproxy = Haproxy::new("api").with_drain_time(Duration::ZERO);
    let haproxy = haproxy.with_tcp(&address);
    assert_eq!(
        haproxy.quiesce("cp-2", &fence()).await.unwrap(),
        Standing::WasIn
    );
    assert_eq!(*states.lock().unwrap(), [0, MAINTENANCE]);
    haproxy.restore("cp-2", &fence()).await.unwrap();
    assert_eq!(*states.lock().unwrap(), [0, 0]);
    let nobody = Haproxy::new("api").with_tcp("127.0.0.1:1");
    let error = nobody.restore("cp-2", &fence()).await.unwrap_err();
    assert!(matches!(error, Error::LoadBalancer { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn several_instances_are_all_asked_before_one_is_changed() {
    let (one, other) = (Fake::start(), Fake::start());
    let both = one.haproxy().with_socket(other.socket());
    let wrong = one.haproxy().with_socket("/does/not/exist");
    assert!(wrong.quiesce("cp-1", &fence()).await.is_err());
    assert_eq!(one.states(), [0, 0]);
    assert_eq!(
        both.quiesce("cp-2", &fence()).await.unwrap(),
        Standing::WasIn
    );
    assert_eq!(
        (one.states(), other.states()),
        ([0, MAINTENANCE], [0, MAINTENANCE])
    );
    // The one that cannot be reached is an error, and keeps no other out.
    let wrong = Haproxy::new("api")
        .with_socket("/does/not/exist")
        .with_socket(one.socket());
    assert!(wrong.restore("cp-2", &fence()).await.is_err());
    assert_eq!(one.states(), [0, 0]);
}

#[tokio::test]
async fn wrong_names_are_refused_with_the_right_ones() {
    let fake = Fake::start();
    let cases = [
        (
            Haproxy::new("other").with_socket(fake.socket()),
            "Can't find backend",
        ),
        (fake.haproxy().with_server("cp-1", "x"), "cp-1, cp-2"),
        (
            fake.haproxy()
                .with_server("cp-1", "cp-1; set server api/cp-2 state maint"),
            "cp-1, cp-2",
        ),
        (
            Haproxy::new("api; shutdown").with_socket(fake.socket()),
            "no command",
        ),
    ];
    for (haproxy, says) in cases {
        let error = haproxy
            .quiesce("cp-1", &fence())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{error}");
    }
    let error = fake
        .haproxy()
        .restore("cp-3", &fence())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("No such server"), "{error}");
    assert_eq!(fake.states(), [0, 0]);
}

fn program(path: &Path, text: &str) {
    crate::testing::executable(path, &format!("#!/bin/bash\n{text}\n"));
}

#[tokio::test]
async fn a_socket_of_another_machine_is_reached_through_its_shell() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    program(
        &folder.path().join("socat"),
        &format!(
            "echo \"$*\" >> {path}/args; cat >> {path}/told; cat {path}/answer 2> /dev/null; true"
        ),
    );
    let shell = Local::new("lb-1").with_path(format!("{path}:/usr/bin:/bin"));
    let haproxy = Haproxy::new("api").with_host(Arc::new(shell), "lb-1", "/run/o'brien sock");
    haproxy.restore("cp-1", &fence()).await.unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("told"), "set server api/cp-1 state ready\n");
    assert_eq!(read("args"), "-t 5 - UNIX-CONNECT:/run/o'brien sock\n");
    std::fs::remove_file(folder.path().join("socat")).unwrap();
    let bare = Local::new("lb-1").with_path(format!("{path}:/nowhere"));
    let bare = Haproxy::new("api").with_host(Arc::new(bare), "lb-1", "/run/sock");
    assert!(bare.restore("cp-1", &fence()).await.is_err());
}

#[tokio::test]
async fn a_configuration_of_another_machine_may_lie_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    program(
        &folder.path().join("socat"),
        &format!(
            "read -r c; case $c in 'show stat') cat {path}/stat ;; *) cat {path}/servers ;; esac"
        ),
    );
    let (mut states, up) = ([0; 2], [RUNNING; 2]);
    for (file, command) in [("servers", "show servers state api"), ("stat", "show stat")] {
        let text = answer(command, &mut states, &up).replace("L4OK", "L7OK");
        std::fs::write(folder.path().join(file), text).unwrap();
    }
    let config = folder.path().join("it's \"$HOME\".cfg");
    std::fs::write(&config, "backend \"api\"\n option httpchk GET '/readyz'\n").unwrap();
    let shell = Local::new("lb-1").with_path(format!("{path}:/usr/bin:/bin"));
    let haproxy = Haproxy::new("api").with_host(Arc::new(shell), "lb-1", "/run/sock");
    let members = ["cp-1".to_owned(), "cp-2".to_owned()];
    let codes = async |haproxy: &Haproxy| {
        let found = haproxy.examine(&members).await;
        found.into_iter().map(|it| it.code).collect::<Vec<_>>()
    };
    assert_eq!(codes(&haproxy).await, ["KM-LB-007"]);
    let haproxy = haproxy.with_configuration(config.to_str().unwrap());
    assert_eq!(codes(&haproxy).await, [""; 0]);
}

#[tokio::test]
async fn a_program_of_the_operators_does_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hook");
    program(
        &path,
        &format!(
            "env | grep ^KUBE_MIGRATE_ | sort | tr '\\n' ' ' >> {0}/ran\n\
             [ -e {0}/code ] && {{ echo not today; exit $(cat {0}/code); }}; exit 0",
            folder.path().display()
        ),
    );
    let hook = ApiServerHook::new(&path).unwrap();
    assert_eq!(
        hook.quiesce("cp-1", &fence()).await.unwrap(),
        Standing::WasIn
    );
    hook.restore("cp-1", &fence()).await.unwrap();
    let ran = std::fs::read_to_string(folder.path().join("ran")).unwrap();
    let of = |phase: &str| {
        format!(
            "KUBE_MIGRATE_EPOCH=7 KUBE_MIGRATE_NODE=cp-1 KUBE_MIGRATE_PHASE={phase} \
             KUBE_MIGRATE_RUN=run-1 KUBE_MIGRATE_TARGET=api-server "
        )
    };
    assert_eq!(ran, of("quiesce") + &of("restore"));
    std::fs::write(folder.path().join("code"), "20").unwrap();
    assert_eq!(
        hook.quiesce("cp-1", &fence()).await.unwrap(),
        Standing::WasOut
    );
    let error = hook
        .restore("cp-1", &fence())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("exited with 20: not today"), "{error}");
    std::fs::write(folder.path().join("code"), "3").unwrap();
    let error = hook
        .quiesce("cp-1", &fence())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("exited with 3: not today"), "{error}");
    let found = hook.examine(&["cp-1".to_owned()]).await;
    assert_eq!(found[0].code, "KM-LB-007");
    let missing = ApiServerHook::new("/does/not/exist");
    assert!(matches!(missing, Err(Error::BadHook { .. })));
}
