//! The binaries of the real control plane.

use migrate_testbed::{Binaries, Error, KubeadmCluster, Release};

/// [`build`], with the older releases if wanted.
pub(crate) fn build_all(extended: bool) -> Result<(), String> {
    if extended {
        ensure(Release::EXTENDED)?;
    }
    build()
}

/// Finds or builds everything the ordinary tests need, saying what it does.
pub(crate) fn build() -> Result<(), String> {
    ensure(Release::TESTED)?;
    nodes()
}

/// Finds or builds what the nodes of a kubeadm cluster need.
fn nodes() -> Result<(), String> {
    let Some((first, others)) = Release::TESTED.split_first() else {
        return Ok(());
    };
    let builder = KubeadmCluster::builder().minor(first.minor);
    let builder = builder.on_progress(|progress| println!("{progress}"));
    let builder = others
        .iter()
        .fold(builder, |builder, release| builder.also(release.minor));
    match builder.find_or_build() {
        Err(error @ Error::NoNamespaces { .. }) if !in_ci() => {
            println!("tests on real nodes are skipped: {error}");
            Ok(())
        }
        Err(error) => Err(error.to_string()),
        Ok(()) => Ok(()),
    }
}

/// Finds or builds the binaries of `releases`.
fn ensure(releases: &[Release]) -> Result<(), String> {
    for release in releases {
        let found = Binaries::find_or_build(release.minor, &|progress| println!("{progress}"));
        let binaries = found.map_err(|error| error.to_string())?;
        println!(
            "control plane {} with etcd {}: {}",
            binaries.kubernetes,
            release.etcd,
            binaries
                .kube_apiserver
                .parent()
                .unwrap_or(&binaries.kube_apiserver)
                .display()
        );
    }
    Ok(())
}

/// As [`build`], but a machine without Go only loses the tests that need a
/// real control plane, except in CI.
pub(crate) fn build_or_skip() -> Result<(), String> {
    let first = Release::TESTED.first().map_or(0, |release| release.minor);
    match Binaries::find_or_build(first, &|progress| println!("{progress}")) {
        Err(error @ Error::NoPrograms { .. }) if !in_ci() => {
            println!("tests on a real control plane are skipped: {error}");
            Ok(())
        }
        Err(error) => Err(error.to_string()),
        Ok(_) => build(),
    }
}

pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true" || value == "1")
}
