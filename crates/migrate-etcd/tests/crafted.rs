//! Files that are made to fill the memory of who reads them: each is read by a process of
//! its own that may have no more than a gibibyte of addresses.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod bolt;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use bolt::build::{Free, snapshot};
use migrate_etcd::{compare, inspect};

/// Names the folder of the files that the process of its own reads.
const FOLDER: &str = "KUBE_MIGRATE_TEST_FOLDER";
/// Who reads them.
const READERS: &[&str] = &[
    "inspection",
    "comparison",
    #[cfg(feature = "objects")]
    "objects",
];
/// KiB of addresses.
const ADDRESSES: u64 = 1 << 20;

/// A page's header.
fn header(id: u64, flags: u16, count: u16, overflow: u32) -> Vec<u8> {
    let mut bytes = id.to_le_bytes().to_vec();
    bytes.extend(flags.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend(overflow.to_le_bytes());
    bytes
}

/// A file of `pages` pages of which nothing but the first meta page is written, so that it
/// takes next to nothing of a disk. Its root is page 2.
fn sparse(path: &Path, page_size: u64, pages: u64) -> File {
    let file = File::create(path).unwrap();
    file.set_len(page_size * pages).unwrap();
    let mut meta = header(0, 4, 0, 0);
    meta.extend(0xED0C_DAEDu32.to_le_bytes());
    meta.extend(2u32.to_le_bytes());
    meta.extend((page_size as u32).to_le_bytes());
    meta.extend(0u32.to_le_bytes());
    for word in [2, 0, u64::MAX, pages, 8] {
        meta.extend(word.to_le_bytes());
    }
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    let hash = meta[16..].iter().fold(0xcbf2_9ce4_8422_2325, step);
    meta.extend(hash.to_le_bytes());
    file.write_all_at(&meta, 0).unwrap();
    file
}

/// Branches one below the other, each with one key of 60 MiB, all zeros that are nowhere.
fn deep(path: &Path) {
    const PAGE: u64 = 4096;
    const EACH: u64 = (60 << 20) / PAGE;
    let levels = 24;
    let file = sparse(path, PAGE, 2 + levels * EACH + 1);
    for level in 0..levels {
        let id = 2 + level * EACH;
        let mut page = header(id, 1, 1, EACH as u32 - 1);
        page.extend(16u32.to_le_bytes());
        page.extend((EACH as u32 * PAGE as u32 - 32).to_le_bytes());
        page.extend((id + EACH).to_le_bytes());
        file.write_all_at(&page, id * PAGE).unwrap();
    }
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A sound file whose only key and value are these.
fn one(path: &Path, key: &[u8], value: &[u8]) {
    let mut record = vec![0x0A];
    record.extend(varint(key.len()));
    record.extend(key);
    record.extend([0x10, 2, 0x18, 2, 0x20, 1, 0x2A]);
    record.extend(varint(value.len()));
    record.extend(value);
    let revision = [&2i64.to_be_bytes()[..], b"_", &[0; 8]].concat();
    let buckets = [("key", vec![(revision, record)]), ("meta", Vec::new())];
    fs::write(path, snapshot(4096, Free::Unlisted, &buckets)).unwrap();
}

const DEFINITION: &[u8] = b"/registry/apiextensions.k8s.io/customresourcedefinitions/a";

/// A definition of more than a mebibyte, as its validation, which half a million versions share.
fn shared() -> Vec<u8> {
    let mut value = br#"{"apiVersion":"apiextensions.k8s.io/v1beta1","kind":"A","spec":{"#.to_vec();
    value.extend(br#""validation":""#);
    value.extend(vec![b'v'; 1 << 20]);
    value.extend(br#"","versions":["#);
    value.extend(b"{},".repeat(1 << 19));
    value.extend(b"{}]}}");
    value
}

/// Schemas one within the other, of which each takes three bytes.
fn messages() -> Vec<u8> {
    let field = |tag: &[u8], content: &[u8]| [tag, &varint(content.len()), content].concat();
    let all_of: &[u8] = &[0xCA, 1];
    let chain = (0..40).fold(Vec::new(), |inner, _| field(all_of, &inner));
    let schema = field(&[0x0A], &field(all_of, &chain).repeat(34_000));
    let version = field(&[0x22], &schema);
    let definition = field(&[0x12], &field(&[0x3A], &version));
    let meta = [
        field(&[0x0A], b"apiextensions.k8s.io/v1"),
        field(&[0x12], b"CustomResourceDefinition"),
    ];
    let unknown = [field(&[0x0A], &meta.concat()), field(&[0x12], &definition)];
    [b"k8s\0".to_vec(), unknown.concat()].concat()
}

#[test]
fn no_file_fills_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // 8 TiB in the smallest pages: 2 GiB of bits.
    sparse(&at("long"), 512, 1 << 34);
    deep(&at("deep"));
    // Each byte of a key or a value may become a part of something.
    one(&at("slashes"), &vec![b'/'; 60 << 20], b"");
    let mut json = vec![b'['];
    json.extend(b"0,".repeat(25 << 20));
    json.extend(b"0]");
    one(&at("json"), b"/registry/namespaces/kube-system", &json);
    let mut maps = vec![b'['];
    maps.extend(br#"{"":0},"#.repeat(2 << 20));
    maps.extend(b"0]");
    one(&at("maps"), b"/registry/pods/a/b", &maps);
    one(&at("shared"), DEFINITION, &shared());
    one(&at("messages"), DEFINITION, &messages());
    let script = format!("ulimit -v {ADDRESSES} && exec \"$0\" \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_reader_with_little_memory", "--ignored"])
        .args(["--nocapture", "--test-threads=1"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{failed}");
    for told in [
        "long: damaged, 17179869184 pages",
        "deep: damaged, more pages",
        "slashes: sound",
        "json: sound",
        "maps: sound",
        "shared: sound",
        "messages: sound",
    ] {
        for reader in READERS {
            let told = format!("{reader} of {told}");
            assert!(said.contains(&told), "{told}: {said}");
        }
    }
}

#[test]
#[ignore = "the process with little memory"]
fn a_reader_with_little_memory() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    for name in [
        "long", "deep", "slashes", "json", "maps", "shared", "messages",
    ] {
        let path = PathBuf::from(&folder).join(name);
        for reader in READERS {
            let read = match *reader {
                "inspection" => inspect(&path).map(drop).map_err(|it| it.to_string()),
                #[cfg(feature = "objects")]
                "objects" => migrate_etcd::objects(&path, drop)
                    .map(drop)
                    .map_err(|it| it.to_string()),
                _ => compare(&path, &path).map(drop).map_err(|it| it.to_string()),
            };
            let told = read.map_or_else(
                |text| {
                    let words = ["17179869184 pages", "more pages"];
                    let known = words.into_iter().find(|words| text.contains(words));
                    format!("damaged, {}", known.unwrap_or(&text))
                },
                |()| "sound".to_owned(),
            );
            println!("{reader} of {name}: {told}");
        }
    }
}
