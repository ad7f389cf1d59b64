//! Aggregated APIs that do not answer.

use kube::Client;
use migrate_core::{Finding, ObjectName, Severity};
use migrate_kube::resources::condition;
use migrate_kube::{Selection, list};

use super::{Answer, codes};
use crate::objects::APIService;

/// Findings about APIServices that are served by a Service which does not
/// answer.
pub(crate) async fn check(client: &Client) -> Answer {
    let services = list::<APIService>(client, &Selection::all()).await?;
    Ok(services.iter().filter_map(judge).collect())
}

fn judge(api: &APIService) -> Option<Finding> {
    let service = api.spec.service.as_ref()?;
    let available = condition(&api.status.conditions, "Available");
    if available.is_some_and(|condition| condition.status == "True") {
        return None;
    }
    let (reason, message) = available.map_or(("", "no status yet"), |c| {
        (c.reason.as_str(), c.message.as_str())
    });
    Some(Finding::new(
        codes::API_UNAVAILABLE,
        Severity::Warning,
        ObjectName::cluster("APIService", api.metadata.name.clone().unwrap_or_default()),
        format!(
            "it is not available from service {}/{} ({reason}): {message}",
            service.namespace, service.name
        ),
        "repair the service, or delete the APIService: until then namespaces cannot be deleted \
         and discovery fails in part",
    ))
}
