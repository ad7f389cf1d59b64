//! The binaries of the real control plane.

use migrate_testbed::{Binaries, Error, KubeadmCluster, Release};

/// Finds or builds everything the tests need, with the older releases if wanted, saying what it does.
pub(crate) fn build_all(extended: bool) -> Result<(), String> {
    build(extended).map_err(|error| error.to_string())
}

/// As [`build_all`], but a machine without Go only loses the tests that need a real control plane, except in CI.
pub(crate) fn build_or_skip(extended: bool) -> Result<(), String> {
    match build(extended) {
        Err(error @ Error::NoPrograms { .. }) if !in_ci() => {
            println!("tests on a real control plane are skipped: {error}");
            Ok(())
        }
        built => built.map_err(|error| error.to_string()),
    }
}

fn build(extended: bool) -> Result<(), Error> {
    if extended {
        ensure(Release::EXTENDED)?;
        let etcd = Binaries::find_or_unpack_etcd_3_4(&|progress| println!("{progress}"))?;
        println!("etcd 3.4: {}", etcd.display());
    }
    ensure(Release::TESTED)?;
    nodes()
}

/// Finds or builds what the nodes of a kubeadm cluster need.
fn nodes() -> Result<(), Error> {
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
        built => built,
    }
}

/// Finds or builds the binaries of `releases`.
fn ensure(releases: &[Release]) -> Result<(), Error> {
    for release in releases {
        let binaries = Binaries::find_or_build(release.minor, &|progress| println!("{progress}"))?;
        println!(
            "control plane {} with etcd {}: {}",
            binaries.release.kubernetes,
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

pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true" || value == "1")
}
