//! What real kubelets and a real container runtime tell of their pulls is enough to measure
//! the link to a registry.

use std::path::Path;
use std::time::Duration;

use kube::Client;
use migrate_core::cost::{BytesPerSecond, Link, TransferSample};
use migrate_kube::image_pulls;
use migrate_testbed::{KubeadmCluster, skip_or_fail};
use serde_json::json;
use tokio::time::Instant;

use crate::figure;
use crate::real::program::example;

/// How long all pulls may take.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
const PAUSE: Duration = Duration::from_millis(500);
/// What the registry sends in a second.
const RATE: u64 = 4_000_000;
/// Images by their size in MB: of random bytes, with nothing in them to run.
const IMAGES: [u64; 5] = [2, 5, 9, 14, 20];

/// Images of one layer each, as a registry has them. Arguments: sizes in MB.
const IMAGE: &str = r#"
    mkdir -p /srv/mirror/blobs
    cd /srv/mirror/blobs
    keep() { local digest; digest=$(sha256sum "$1" | cut -d ' ' -f 1); mv "$1" "$digest"; echo "$digest"; }
    oci=application/vnd.oci.image
    for mb in "$@"; do
        head -c "${mb}000000" /dev/urandom > data
        tar -cf layer data
        layer=$(keep layer)
        printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
            "$layer" > config
        config=$(keep config)
        of() { printf '{"mediaType":"%s","digest":"sha256:%s","size":%s}' "$1" "$2" "$(stat -c %s "$2")"; }
        printf '{"schemaVersion":2,"mediaType":"%s.manifest.v1+json","config":%s,"layers":[%s]}' \
            "$oci" "$(of "$oci.config.v1+json" "$config")" "$(of "$oci.layer.v1.tar" "$layer")" > manifest
        ln -s "$(keep manifest)" "image-$mb"
        rm data
    done
"#;

/// A registry that can be read, and sends no more than so much a second. Argument: that.
const REGISTRY: &str = r#"
    use strict;
    use IO::Socket::INET;
    my ($rate) = @ARGV;
    chdir "/srv/mirror/blobs" or die;
    $SIG{CHLD} = "IGNORE";
    my $door = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 5000, Listen => 16, ReuseAddr => 1) or die;
    while (my $caller = $door->accept) {
        next if fork;
        while (defined(my $line = <$caller>)) {
            my ($method, $path) = split / /, $line;
            while (<$caller>) { last if /^\r?$/ }
            my ($image, $kind, $name) = $path =~ m{^/v2/([\w-]+)/(manifests|blobs)/(?:sha256:)?(\w+)$};
            my $file = defined $name && $name eq "latest" ? readlink $image : $name;
            if (!defined $file || !-f $file) {
                my $code = $path eq "/v2/" ? "200 OK" : "404 Not Found";
                print $caller "HTTP/1.1 $code\r\nContent-Length: 0\r\n\r\n";
                $caller->flush;
                next;
            }
            my $type = $kind eq "blobs" ? "application/octet-stream" : "application/vnd.oci.image.manifest.v1+json";
            my $size = -s $file;
            print $caller "HTTP/1.1 200 OK\r\nContent-Type: $type\r\nDocker-Content-Digest: sha256:$file\r\nContent-Length: $size\r\n\r\n";
            $caller->flush;
            next if $method eq "HEAD";
            open(my $blob, "<:raw", $file) or die;
            while (read $blob, my $part, 65536) {
                print $caller $part;
                $caller->flush;
                select undef, undef, undef, length($part) / $rate;
            }
        }
        exit;
    }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "three minutes; part of cargo xtask extended"]
async fn pulls_of_real_kubelets_measure_the_link_to_a_registry() {
    let builder = KubeadmCluster::builder().workers(1).minor(36);
    let Some(cluster) = skip_or_fail(builder.start().await) else {
        return;
    };
    let worker = &cluster.nodes()[1];
    let sizes = IMAGES.map(|mb| mb.to_string());
    let mut words = vec!["bash", "-euo", "pipefail", "-c", IMAGE, "image"];
    words.extend(sizes.iter().map(String::as_str));
    worker.run(&words).await.unwrap();
    let rate = RATE.to_string();
    let unit = [
        "systemd-run",
        "--unit=mirror",
        "perl",
        "-e",
        REGISTRY,
        &rate,
    ];
    worker.run(&unit).await.unwrap();

    let client = cluster.client();
    for mb in IMAGES {
        pull(&client, worker.name(), mb).await;
    }
    let began = Instant::now();
    let pulls = loop {
        let pulls = image_pulls(&client).await.unwrap();
        if pulls.len() >= IMAGES.len() {
            break pulls;
        }
        assert!(began.elapsed() < PATIENCE, "{pulls:#?}");
        tokio::time::sleep(PAUSE).await;
    };
    println!("{pulls:#?}");
    for pull in &pulls {
        assert_eq!(pull.node.as_deref(), Some(worker.name()));
        // Of containerd what is fetched: the layer, and little beside it.
        let mb = pull.image.trim_start_matches("127.0.0.1:5000/image-");
        let mb: u64 = mb.trim_end_matches(":latest").parse().unwrap();
        let more = pull.sample.bytes.0 - mb * 1_000_000;
        assert!(more < 50_000, "{pull:?}");
    }
    let samples: Vec<TransferSample> = pulls.iter().map(|pull| pull.sample).collect();
    let Link {
        throughput: BytesPerSecond(throughput),
        latency,
        ..
    } = Link::fit("registry", &samples).unwrap();
    figure("links.sent", RATE as f64 / 1e6, "MB/s");
    figure("links.measured", throughput as f64 / 1e6, "MB/s");
    figure("links.latency", latency.as_secs_f64() * 1e3, "ms");
    // The registry never sends more, and what it sends is unpacked meanwhile.
    assert!(throughput <= RATE * 11 / 10, "{throughput}");
    assert!(throughput >= RATE / 2, "{throughput}");

    let told = planned(&cluster.kubeconfig_path()).await;
    assert!(told.contains("measured 5 pulls of images"), "{told}");
    assert!(told.contains("each node fetches 47.7 MiB"), "{told}");
    let per_second = format!("over link registry: {}", BytesPerSecond(throughput));
    assert!(told.contains(&per_second), "{told}: {per_second}");
}

/// A pod whose image is pulled, and in which nothing can run.
async fn pull(client: &Client, node: &str, mb: u64) {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": format!("image-{mb}"), "namespace": "default" },
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "containers": [{
                "name": "image",
                "image": format!("127.0.0.1:5000/image-{mb}:latest"),
                "command": ["/nothing"],
            }],
        },
    });
    let path = "/api/v1/namespaces/default/pods";
    let request = http::Request::post(path).header("content-type", "application/json");
    let request = request.body(serde_json::to_vec(&pod).unwrap()).unwrap();
    client.request::<serde_json::Value>(request).await.unwrap();
}

/// What the planner's program says, both streams.
async fn planned(kubeconfig: impl AsRef<Path>) -> String {
    let mut command = tokio::process::Command::new(example("plan"));
    command.arg("--kubeconfig").arg(kubeconfig.as_ref());
    let output = command.arg("--measure-links").output().await.unwrap();
    let said = [output.stderr, output.stdout].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    println!("{said}");
    assert!(output.status.success(), "{said}");
    said
}
