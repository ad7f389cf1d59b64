//! What is shown of files that somebody else has written.

use migrate_etcd::{
    BackupProof, Catalogue, Manifest, Membership, NewSnapshot, PartFile, compare, inspect,
};

use super::{Desk, run};
use crate::lines::{Lines, shown};
use crate::show;

/// Sets the title of a terminal, clears it, goes up a line, and says that all is well.
const HOSTILE: &str = "\u{1b}]0;x\u{7}\u{1b}[2J\u{9b}1A\nrevision   9\u{202e}\r";

/// Folders, resources, names of objects and of encryption keys, members and their URLs.
async fn hostile(desk: &Desk, name: &str, revision: u64) -> std::path::PathBuf {
    let members = format!("m{HOSTILE}=http://127.0.0.1:1");
    let members = Membership::parse(&members, "t").unwrap();
    let mut snapshot = NewSnapshot::new(members);
    let pod = format!("/registry/pods/a{HOSTILE}/{revision}{HOSTILE}");
    let bound = format!(
        r#"{{"spec":{{"nodeName":{}}}}}"#,
        serde_json::json!(HOSTILE)
    );
    snapshot.put(pod, bound, 2);
    let encrypted = format!("k8s:enc:aescbc:v1:{HOSTILE}:x");
    snapshot.put("/registry/secrets/a/b", encrypted, 3);
    snapshot.put(format!("/{HOSTILE}/c"), "d", 3 + revision as i64);
    let file = PartFile::replace(desk.folder.path(), name).await.unwrap();
    snapshot.write(file).await.unwrap().path
}

/// That a terminal obeys nothing of them, and no line was made up.
fn assert_plain(lines: &Lines) {
    let text = lines.to_string();
    let is_odd = |letter: char| letter.is_control() && letter != '\n' || letter == '\u{202e}';
    assert!(!text.contains(is_odd), "{text:?}");
    let made_up = text.lines().filter(|line| line.starts_with("revision   9"));
    assert_eq!(made_up.count(), 0, "{text}");
}

#[tokio::test]
async fn a_terminal_obeys_nothing_of_what_a_file_or_a_store_says() {
    let desk = Desk::new();
    let path = hostile(&desk, "a.db", 1).await;
    let later = hostile(&desk, "b.db", 2).await;
    let found = inspect(&path).unwrap();
    let text = show::inspection(&found);
    assert_plain(&text);
    let text = text.to_string();
    for what in ["folder     ", "encrypted  ", "member     ", "objects    "] {
        assert!(text.contains(what), "{what}: {text}");
    }
    assert!(text.contains("\\u001b[2J"), "{text}");
    let compared = compare(&path, &later).unwrap();
    assert_plain(&show::comparison(&compared));
    for json in [Lines::json(&found), Lines::json(&compared)] {
        let json = json.unwrap();
        let text = json.to_string();
        let is_odd = |letter: char| letter.is_control() && letter != '\n';
        assert!(
            !text.contains(is_odd) && text.contains("\\u009b"),
            "{text:?}"
        );
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }

    let mut manifest = Manifest::of(
        &path,
        "2026-11-29T00:00:00Z".parse().unwrap(),
        BackupProof::Proven,
    )
    .unwrap();
    manifest.encryption_keys = vec![HOSTILE.to_owned()];
    manifest.kubernetes = Some(HOSTILE.to_owned());
    assert_plain(&show::manifest(&manifest));
    let mut catalogue = Catalogue::default();
    catalogue.backups.push(manifest);
    catalogue.unfinished.push(HOSTILE.to_owned());
    assert_plain(&show::catalogue(&catalogue));
}

#[test]
fn letters_are_shown_as_they_are() {
    for text in ["/registry/pods/a", "größer 数 ✓", "a b\u{301}"] {
        assert_eq!(shown(text), text);
    }
    assert_eq!(shown("a\tb\u{7f}c\u{feff}"), "a\\u0009b\\u007fc\\ufeff");
}

#[tokio::test]
async fn a_damaged_file_is_told_as_json_with_its_place() {
    let desk = Desk::new();
    let path = desk.snapshot("a.db", "ours").await;
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 32);
    // The flags of a page that is in use.
    let page = 4096;
    let at = (2..bytes.len() / page)
        .map(|id| id * page + 8)
        .find(|at| bytes[*at] == 2)
        .unwrap();
    bytes[at] = 9;
    std::fs::write(&path, bytes).unwrap();
    let found = inspect(&path);
    let json = show::inspected(&found, None, true).unwrap().to_string();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let error = &json["error"];
    assert_eq!(error["kind"], "damaged");
    assert_eq!(error["page"], at / page);
    assert_eq!(error["offset"], at / page * page);
    assert!(
        error["fault"].as_str().unwrap().contains("flags 0x0009"),
        "{error}"
    );
    assert_eq!(error["file"], path.display().to_string());
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("damaged at page")
    );
    assert!(
        show::inspected(&found, None, false)
            .unwrap()
            .to_string()
            .is_empty()
    );
    // It ends with 1 all the same.
    assert!(
        run(&format!("inspect {} --json", path.display()))
            .await
            .is_err()
    );

    std::fs::write(&path, "no database").unwrap();
    let json = show::inspected(&inspect(&path), None, true)
        .unwrap()
        .to_string();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["error"]["kind"], "noMeta", "{json}");
    assert!(json["error"].get("page").is_none(), "{json}");
}

#[test]
fn a_bucket_that_no_etcd_has_is_shown() {
    let mut found = migrate_etcd::Inspection::default();
    found.unknown_buckets = vec!["scrap".to_owned()];
    let text = show::inspection(&found).to_string();
    assert!(text.contains("bucket     scrap: "), "{text}");
}

/// The same as of any other fault: a program that reads the JSON has to see it.
#[tokio::test]
async fn a_snapshot_that_has_lost_its_hash_is_an_error_in_json_too() {
    let desk = Desk::new();
    let path = hostile(&desk, "a.db", 1).await;
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 32]).unwrap();
    let found = inspect(&path);
    let lost = crate::lost_trailer(&path);
    let json = show::inspected(&found, Some((&path, &lost)), true).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json.to_string()).unwrap();
    assert_eq!(json["error"]["kind"], "noTrailer");
    assert_eq!(json["error"]["file"], path.display().to_string());
    let message = json["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("a.db") && message.contains("--without-trailer"),
        "{json}"
    );
    let inspected = run(&format!("inspect {} --json", path.display())).await;
    assert_eq!(inspected.unwrap_err().to_string(), lost);
    run(&format!(
        "inspect {} --json --without-trailer",
        path.display()
    ))
    .await
    .unwrap();
}
