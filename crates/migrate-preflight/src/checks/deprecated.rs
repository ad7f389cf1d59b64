//! Use of deprecated APIs, as the API server has counted it.

use futures::io::AsyncBufReadExt;
use futures::{AsyncBufRead, TryStreamExt};
use kube::Client;
use migrate_core::version::MinorVersion;
use migrate_core::{ClusterModel, Finding, KubeVersion, ObjectName, Severity};
use migrate_kube::{ApiCall, Error};

use super::{Answer, codes};
use crate::metrics::Sample;

const PATH: &str = "/metrics";
/// One sample for each deprecated API that was requested since the server
/// started.
const METRIC: &str = "apiserver_requested_deprecated_apis";

/// Findings about deprecated APIs in use.
///
/// Only the API server that answers is asked; where there are several, another
/// one may have seen other requests, which is a finding too.
pub(crate) async fn check(client: &Client, model: &ClusterModel, target: &KubeVersion) -> Answer {
    let call = ApiCall::path(PATH);
    let request = http::Request::get(PATH)
        .body(Vec::new())
        .map_err(|error| Error::Decode {
            call: call.clone(),
            message: error.to_string(),
        })?;
    let body = match client.request_stream(request).await {
        Ok(body) => body,
        Err(error) => {
            return match call.failed(error) {
                Error::NotFound { .. } => Ok(vec![unknown()]),
                error => Err(error),
            };
        }
    };
    let samples = samples(body).await.map_err(|error| Error::Unreachable {
        call,
        server: None,
        message: error.to_string(),
    })?;
    let judged = samples.iter().map(|sample| judge(sample, target));
    Ok(judged.chain(unasked(model.control_plane.len())).collect())
}

/// The samples of the metric. The body is read line by line: that of a large
/// cluster has tens of megabytes.
async fn samples(body: impl AsyncBufRead) -> std::io::Result<Vec<Sample>> {
    let mut lines = Box::pin(body).lines();
    let mut samples = Vec::new();
    while let Some(line) = lines.try_next().await? {
        if line.starts_with(METRIC) {
            let sample = Sample::parse(&line);
            samples.extend(sample.filter(|sample| sample.name == METRIC && sample.value > 0.0));
        }
    }
    Ok(samples)
}

fn judge(sample: &Sample, target: &KubeVersion) -> Finding {
    let (group, version) = (sample.label("group"), sample.label("version"));
    let (resource, subresource) = (sample.label("resource"), sample.label("subresource"));
    let mut name = match group {
        "" => format!("{version} {resource}"),
        group => format!("{group}/{version} {resource}"),
    };
    if !subresource.is_empty() {
        name = format!("{name}/{subresource}");
    }
    let removed = sample.label("removed_release");
    let is_gone = removed
        .parse::<MinorVersion>()
        .is_ok_and(|removed| removed <= target.minor_version());
    let (code, severity) = if is_gone {
        (codes::API_REMOVED, Severity::Blocker)
    } else {
        (codes::API_DEPRECATED, Severity::Warning)
    };
    let when = match removed {
        "" => "its removal has no date yet".to_owned(),
        removed => format!("{removed} no longer serves it"),
    };
    Finding::new(
        code,
        severity,
        ObjectName::cluster("API", name),
        format!("it was requested since this API server started, and {when}"),
        "find the client in the audit log (annotation k8s.io/deprecated) and move it to a newer \
         version; the count is kept until the API server restarts",
    )
}

fn unknown() -> Finding {
    Finding::new(
        codes::API_USE_UNKNOWN,
        Severity::Info,
        ObjectName::cluster("Path", PATH),
        "the API server offers no metrics, so nothing is known of the use of deprecated APIs",
        "search manifests and the audit log for APIs that the target does not serve",
    )
}

/// Of several API servers only the one that answers has been read.
fn unasked(members: usize) -> Option<Finding> {
    (members > 1).then(|| {
        Finding::new(
            codes::API_USE_UNKNOWN,
            Severity::Info,
            ObjectName::cluster("Path", PATH),
            format!(
                "the use of deprecated APIs was read from the one of {members} API servers that \
                 answered; what was asked of the others is unknown"
            ),
            "look for apiserver_requested_deprecated_apis in /metrics of each API server, or \
             search the audit log",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_the_target_no_longer_serves_blocks() {
        let text = "# HELP apiserver_requested_deprecated_apis Gauge of deprecated APIs\n\
            apiserver_requested_deprecated_apis_other{group=\"x\"} 1\n\
            apiserver_requested_deprecated_apis{group=\"flow\",version=\"v1beta3\",resource=\"a\",subresource=\"\",removed_release=\"1.37\"} 1\n\
            apiserver_requested_deprecated_apis{group=\"flow\",version=\"v1\",resource=\"b\",subresource=\"status\",removed_release=\"1.38\"} 1\n\
            apiserver_requested_deprecated_apis{group=\"\",version=\"v1\",resource=\"c\",subresource=\"\",removed_release=\"\"} 1\n\
            apiserver_requested_deprecated_apis{group=\"\",version=\"v1\",resource=\"d\",removed_release=\"1.30\"} 0\n\
            up 1\n";
        let samples = samples(text.as_bytes()).await.unwrap();
        let target = "v1.37.2".parse().unwrap();
        let found: Vec<String> = samples
            .iter()
            .map(|sample| judge(sample, &target))
            .map(|f| format!("{} {} {}", f.code, f.severity, f.object.name))
            .collect();
        assert_eq!(
            found,
            [
                "KM-API-002 blocker flow/v1beta3 a",
                "KM-API-003 warning flow/v1 b/status",
                "KM-API-003 warning v1 c",
            ]
        );
    }
}
