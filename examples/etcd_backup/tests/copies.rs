//! Copies of a data folder's database, which have no hash at their end.

use super::Desk;

/// What is advised where the hash is missing can be said; how the file is known has to be too.
#[tokio::test]
async fn a_copy_of_a_database_is_restored_if_that_is_what_is_said_to_be_meant() {
    let desk = Desk::new();
    let snapshot = desk.snapshot("a.db", "ours").await;
    let copy = desk.at("copy.db");
    let mut bytes = std::fs::read(&snapshot).unwrap();
    bytes.truncate(bytes.len() - 32);
    std::fs::write(&copy, &bytes).unwrap();
    let restore = async |name: &str, how: &str| {
        let _ = std::fs::remove_dir_all(desk.at("data"));
        let restored = desk.restore(name, how).await;
        restored.map_err(|error| error.to_string())
    };
    let error = restore("copy.db", " --unsigned").await.unwrap_err();
    assert!(error.contains("--from-copy"), "{error}");
    let error = restore("copy.db", " --from-copy").await.unwrap_err();
    assert!(
        error.contains("nothing says that it is the right one"),
        "{error}"
    );
    restore("copy.db", " --from-copy --unsigned").await.unwrap();
    assert!(desk.at("data/member/snap/db").exists());

    let other = format!(" --from-copy --sha256 {}", "0".repeat(64));
    let error = restore("copy.db", &other).await.unwrap_err();
    assert!(error.contains("exchanged"), "{error}");
    desk.sign(&copy).await;
    let trusted = format!(" --trusted {}", desk.signing.public());
    restore("copy.db", &format!(" --from-copy{trusted}"))
        .await
        .unwrap();

    // A snapshot is held to its hash, whatever is said.
    bytes.extend([0; 32]);
    std::fs::write(&snapshot, &bytes).unwrap();
    let error = restore("a.db", " --from-copy --unsigned")
        .await
        .unwrap_err();
    assert!(error.contains("do not match the SHA-256"), "{error}");
}
