//! A privileged Job on the node.

mod api;
mod frame;
mod manifest;
mod standing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use kube::Client;
use tokio::time::{Instant, sleep, timeout};

use super::{BEGUN, NodeShell, Script, ScriptOutput};
use crate::Error;
use api::{JobApi, POLL};
use frame::{Framed, Reading};
use standing::{Job, Pod, Standing, Why};

/// How often the log of a container that has ended is read again before what is
/// missing in it is missed.
const LOOKS: u32 = 3;
/// How long removing a Job may take.
const REMOVAL: Duration = Duration::from_secs(10);

/// Reaches nodes through the API: each script is a privileged Job of its own,
/// bound to its node, that enters the node's namespaces and runs it there.
///
/// Who may make Jobs in its namespace is root on every node. The namespace, with
/// its label for Pod Security, and the rights it takes are `docs/rbac-job.yaml`.
/// The image needs nothing but an `nsenter` in its `PATH` (busybox has one); the
/// node needs `bash`, `sed` and coreutils. Where there is no registry the image has to
/// be on the nodes.
///
/// The script and its arguments stand in the Job, for everybody who may read
/// Jobs there.
///
/// # Guarantees
/// Those of [`NodeShell`], and:
/// * Output is whole, or it is an error: it is framed and counted on the node.
///   Carriage returns at the end of a line are left out.
/// * While the kubelet of the node, or the API server, is away, the end of a
///   script is waited for as long as its limit allows.
/// * A script that takes longer is ended with everything it started that is not
///   a unit of its own.
/// * The Job is removed after it was read. What a runner that was killed has
///   left ends by its deadline and is removed by the API five minutes after its
///   end. Nobody removes a Job of another: it may be about to be read.
/// * The pod needs no scheduler, no CNI and no room but its place among the
///   node's pods. It carries [`STEP_LABEL`](migrate_core::model::STEP_LABEL), so
///   that a drain leaves it alone.
///
/// # Errors
/// [`Error::JobRefused`], [`Error::JobApi`], [`Error::ScriptTooLong`]: final.
/// [`Error::JobNotStarted`], [`Error::Unreachable`] and [`Error::NodeTimeout`]:
/// try again; what was under way may have been done, with the first only where a
/// kubelet could not say so.
///
/// # Caveats
/// It takes an API server and a controller manager to start, and the node's
/// kubelet. A node with a control plane is better reached in another way: when
/// something goes wrong there, there may be no API left to reach it through.
///
/// ```no_run
/// # async fn example(client: kube::Client, ssh: migrate_upgrade::Ssh) {
/// use std::sync::Arc;
/// use migrate_upgrade::{JobShell, Kubeadm, PerNode};
///
/// let jobs = Arc::new(JobShell::new(client, "registry.example/busybox:1.37"));
/// let ways = PerNode::new(Arc::new(ssh)).with_node("worker-1", jobs);
/// let driver = Kubeadm::new(Arc::new(ways));
/// # }
/// ```
#[derive(Clone)]
pub struct JobShell {
    api: JobApi,
    image: String,
    start: Duration,
}

impl JobShell {
    /// The namespace of `docs/rbac-job.yaml`.
    pub const NAMESPACE: &str = "kube-migrate";

    /// Jobs of `image` in [`NAMESPACE`](Self::NAMESPACE). The client should send
    /// every request once ([`migrate_kube::connect`]).
    pub fn new(client: Client, image: impl Into<String>) -> Self {
        Self {
            api: JobApi::new(client, Self::NAMESPACE.to_owned()),
            image: image.into(),
            start: Duration::from_secs(60),
        }
    }

    /// Another namespace.
    #[must_use]
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.api = self.api.within(namespace.into());
        self
    }

    /// How long a pod may take to start, the pull of its image included (default
    /// 60 s); the limit of a script counts from before that.
    #[must_use]
    pub fn with_start_timeout(mut self, timeout: Duration) -> Self {
        self.start = timeout;
        self
    }
}

#[async_trait]
impl NodeShell for JobShell {
    async fn run(
        &self,
        node: &str,
        script: &Script,
        limit: Duration,
    ) -> Result<ScriptOutput, Error> {
        let call = Call {
            shell: self,
            node,
            limit,
            mark: frame::mark(script),
        };
        call.run(script).await
    }
}

impl fmt::Debug for JobShell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobShell")
            .field("namespace", &self.api.namespace())
            .field("image", &self.image)
            .finish_non_exhaustive()
    }
}

/// One script on its way.
struct Call<'a> {
    shell: &'a JobShell,
    node: &'a str,
    limit: Duration,
    mark: String,
}

impl Call<'_> {
    async fn run(&self, script: &Script) -> Result<ScriptOutput, Error> {
        let (shell, began) = (self.shell, Instant::now());
        let job = manifest::job(self.node, &shell.image, script, self.limit)?;
        let job = timeout(self.limit, shell.api.create(&job)).await;
        let job = job.map_err(|_| self.late())?;
        let job = job.map_err(|error| self.failed(error))?;
        let left = self.limit.saturating_sub(began.elapsed());
        let mut seen = Standing::Waiting("its Job has made no pod".to_owned());
        let end = timeout(left, self.end_of(&job, &mut seen)).await;
        // Whatever it says: the API removes it too.
        let _ = timeout(REMOVAL, shell.api.delete(&job.metadata.name)).await;
        match (end, seen) {
            (Ok(end), _) => self.output(end?),
            (Err(_), Standing::Waiting(said)) => Err(self.not_started(said)),
            (Err(_), _) => Err(self.late()),
        }
    }

    /// Waits for the end of the script; `seen` is where it stood last.
    async fn end_of(&self, job: &Job, seen: &mut Standing) -> Result<Framed, Error> {
        let created = Instant::now();
        let (mut had_pod, mut looks) = (false, 0);
        loop {
            match self.shell.api.pod_of(job).await {
                Ok(Some(pod)) => {
                    had_pod = true;
                    *seen = pod.standing();
                    if let Some(framed) = self.look(&pod, seen, looks).await? {
                        return Ok(framed);
                    }
                    looks += u32::from(matches!(seen, Standing::Ended(_)));
                }
                Ok(None) if had_pod => {
                    return Err(self.lost("its pod is gone, and its output with it"));
                }
                Ok(None) => *seen = Standing::Waiting(self.without_pod(job).await?),
                Err(error) => self.bear(error)?,
            }
            match seen {
                Standing::Waiting(said) if created.elapsed() >= self.shell.start => {
                    return Err(self.not_started(std::mem::take(said)));
                }
                _ => sleep(POLL).await,
            }
        }
    }

    /// What the pod says of the script; `None` if that is not all yet.
    /// `looks` is how often it has been seen ended before.
    async fn look(&self, pod: &Pod, seen: &Standing, looks: u32) -> Result<Option<Framed>, Error> {
        let ended = match seen {
            Standing::Waiting(_) => return Ok(None),
            Standing::Never(why) => return Err(self.never(why)),
            Standing::Begun => None,
            Standing::Ended(how) => Some(how),
        };
        let read = self.shell.api.log(pod, &self.mark, ended.is_some());
        let log = match read.await {
            Ok(Some(log)) => log,
            Ok(None) => return Ok(None),
            // The kubelet is away, or has nothing to show yet.
            Err(error) => return self.bear(error).map(|()| None),
        };
        match (frame::read(&log, &self.mark), ended) {
            (Reading::Whole(framed), _) => Ok(Some(framed)),
            (_, None) => Ok(None),
            // What it said last may still be on its way into the log.
            _ if looks < LOOKS => Ok(None),
            (Reading::Unfinished, Some(how)) => {
                Err(self.lost(&format!("its output is not whole: {how}")))
            }
            (Reading::NotBegun, Some(how)) => {
                let said = String::from_utf8_lossy(&log);
                Err(self.bad(format!("no script was begun: {}; {how}", said.trim())))
            }
        }
    }

    /// Why a Job has no pod; an error if it is not going to have one.
    async fn without_pod(&self, job: &Job) -> Result<String, Error> {
        let api = &self.shell.api;
        match api.refusal_of(job).await {
            Ok(Some(said)) => match standing::cure(&said) {
                Some(cure) => {
                    return Err(Error::JobRefused {
                        node: self.node.to_owned(),
                        namespace: api.namespace().to_owned(),
                        said,
                        cure,
                    });
                }
                None => return Ok(format!("its pod is refused: {said}")),
            },
            Ok(None) => {}
            Err(error) => self.bear(error)?,
        }
        match api.job(&job.metadata.name).await {
            Ok(job) => match job.end() {
                Some(how) => Err(self.not_started(format!("its Job has ended: {how}"))),
                None => Ok("its Job has made no pod; see that the controller manager runs".into()),
            },
            Err(migrate_kube::Error::NotFound { .. }) => {
                Err(self.lost("its Job was removed by somebody else"))
            }
            Err(error) => {
                let said = error.to_string();
                self.bear(error).map(|()| said)
            }
        }
    }

    /// What a script has printed, if it was one.
    fn output(&self, framed: Framed) -> Result<ScriptOutput, Error> {
        let Framed {
            code,
            stdout,
            stderr,
        } = framed;
        match stdout
            .strip_prefix(BEGUN)
            .and_then(|rest| rest.strip_prefix('\n'))
        {
            Some(stdout) => Ok(ScriptOutput::new(code, stdout, stderr)),
            None => Err(self.bad(format!(
                "no script was begun, exit code {code}: {}",
                stderr.trim()
            ))),
        }
    }

    /// Nothing, if the same question may be answered later.
    fn bear(&self, error: migrate_kube::Error) -> Result<(), Error> {
        use migrate_kube::Error::{Api, NotFound};
        // A log that does not exist yet is a bad request, or not found.
        match error.is_retryable() || matches!(error, NotFound { .. } | Api { code: 400, .. }) {
            true => Ok(()),
            false => Err(self.failed(error)),
        }
    }

    fn failed(&self, source: migrate_kube::Error) -> Error {
        let node = self.node.to_owned();
        match source.is_retryable() {
            true => Error::Unreachable {
                node,
                said: source.to_string(),
            },
            false => Error::JobApi {
                node,
                source: Box::new(source),
            },
        }
    }

    fn never(&self, why: &Why) -> Error {
        let image = &self.shell.image;
        self.not_started(match why {
            Why::Image(said) => format!(
                "the image {image} is not on the node and cannot be pulled: {said}; import it, \
                 or name one that the node can pull"
            ),
            Why::Unfit(said) => format!(
                "the image {image} cannot run: {said}; take one with nsenter in its PATH, such \
                 as busybox"
            ),
            Why::Refused(said) => format!("the kubelet does not take its pod: {said}"),
        })
    }

    fn not_started(&self, said: String) -> Error {
        Error::JobNotStarted {
            node: self.node.to_owned(),
            said,
        }
    }

    fn lost(&self, said: &str) -> Error {
        Error::Unreachable {
            node: self.node.to_owned(),
            said: said.to_owned(),
        }
    }

    fn bad(&self, said: String) -> Error {
        Error::BadAnswer {
            node: self.node.to_owned(),
            said,
        }
    }

    fn late(&self) -> Error {
        Error::NodeTimeout {
            node: self.node.to_owned(),
            limit: self.limit,
        }
    }
}
