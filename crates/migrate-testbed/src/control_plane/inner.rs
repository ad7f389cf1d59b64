//! The processes behind a control plane.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::flags::Layout;
use super::pki::Pki;
use super::{ControlPlaneBuilder, Identity, Swap};
use crate::process::{Component, Port, RunDir, Signal};
use crate::wait::eventually;
use crate::{Binaries, Error, Progress, audit, kwok};

/// Longest wait for a component to serve or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines of each log that a failed test shows.
const SHOWN_LINES: usize = 25;

pub(crate) type Report = Arc<dyn Fn(&Progress) + Send + Sync>;

/// What the handle and the hook server share.
pub(crate) struct Inner {
    // Fields are dropped in this order: programs first, their folder last.
    components: Mutex<Components>,
    kubeconfigs: Kubeconfigs,
    pki: Pki,
    audit: bool,
    api_server_flags: Vec<String>,
    controller_manager_flags: Vec<String>,
    report: Report,
    api_port: Port,
    etcd_port: Port,
    etcd_peer_port: Port,
    run_dir: RunDir,
}

/// The programs that run, clients before servers.
struct Components {
    binaries: Binaries,
    kwok: Option<Component>,
    scheduler: Option<Component>,
    controller_manager: Option<Component>,
    api_server: Option<Component>,
    etcd: Option<Component>,
}

/// One for each component, so that the audit log can tell them apart.
struct Kubeconfigs {
    testbed: PathBuf,
    controller_manager: PathBuf,
    scheduler: PathBuf,
    kwok: PathBuf,
}

impl Inner {
    pub(super) async fn start(
        options: &ControlPlaneBuilder,
        binaries: Binaries,
        report: Report,
    ) -> Result<Self, Error> {
        let cache = Binaries::cache()?;
        let api_port = Port::reserve(&cache)?;
        let run_dir = RunDir::create()?;
        let pki = Pki::create(run_dir.path().join("pki"), api_port.number())?;
        let kubeconfigs = Kubeconfigs {
            testbed: pki.kubeconfig(&Identity::master("testbed:hook"))?,
            controller_manager: pki.kubeconfig(&Identity::new("system:kube-controller-manager"))?,
            scheduler: pki.kubeconfig(&Identity::new("system:kube-scheduler"))?,
            kwok: pki.kubeconfig(&Identity::master("testbed:kwok"))?,
        };
        let stages = kwok::stages(binaries.release.kubernetes, options.pod_ready_after);
        for (name, text) in [("audit.yaml", audit::POLICY), ("kwok.yaml", &stages)] {
            fs::write(run_dir.path().join(name), text)
                .map_err(Error::io(format!("writing {name}")))?;
        }
        let inner = Self {
            components: Mutex::new(Components::none(binaries)),
            kubeconfigs,
            pki,
            audit: options.audit,
            api_server_flags: options.api_server_flags.clone(),
            controller_manager_flags: options.controller_manager_flags.clone(),
            report,
            api_port,
            etcd_port: Port::reserve(&cache)?,
            etcd_peer_port: Port::reserve(&cache)?,
            run_dir,
        };
        if let Err(error) = inner.start_components().await {
            // They go with the folder, and only they say what a server hangs on.
            inner.print_logs();
            return Err(error);
        }
        Ok(inner)
    }

    pub(crate) fn pki(&self) -> &Pki {
        &self.pki
    }

    pub(crate) fn dir(&self) -> &Path {
        self.run_dir.path()
    }

    /// Kubeconfig of the user `testbed:hook`, who may do everything.
    pub(crate) fn hook_kubeconfig(&self) -> &Path {
        &self.kubeconfigs.testbed
    }

    pub(super) fn etcd_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_port.number())
    }

    pub(super) fn audit_log(&self) -> Result<PathBuf, Error> {
        if self.audit {
            Ok(self.run_dir.path().join("audit.log"))
        } else {
            Err(Error::AuditOff)
        }
    }

    pub(super) async fn binaries(&self) -> Binaries {
        self.components.lock().await.binaries.clone()
    }

    /// Returns when no swap is under way.
    pub(crate) async fn settle(&self) {
        drop(self.components.lock().await);
    }

    pub(super) async fn signal_kwok(&self, signal: Signal) -> Result<(), Error> {
        match &mut self.components.lock().await.kwok {
            Some(kwok) => kwok.signal(signal),
            None => Ok(()),
        }
    }

    pub(super) async fn check_components(&self) -> Result<(), Error> {
        self.components.lock().await.check()
    }

    /// Returns when a component has ended by itself.
    pub(super) async fn watch_components(&self) -> Error {
        loop {
            if let Err(ended) = self.check_components().await {
                return ended;
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// The programs of a minor version.
    pub(crate) async fn find(&self, minor: u32) -> Result<Binaries, Error> {
        find_or_build(minor, &self.report).await
    }

    pub(crate) async fn swap_to(&self, target: Binaries) -> Result<Swap, Error> {
        let mut components = self.components.lock().await;
        let from = components.binaries.release.kubernetes;
        let to = target.release.kubernetes;
        let begun = Instant::now();
        let mut api_away = Duration::ZERO;
        if from != to || !components.are_all_there() {
            components.check()?;
            // Those that act first, then the server they act on.
            components.stop_controllers().await?;
            components.stop_api_server().await?;
            components.binaries = target;
            self.start_kubernetes(&mut components).await?;
            api_away = begun.elapsed();
            self.start_controllers(&mut components)?;
        }
        Ok(Swap {
            from: from.to_owned(),
            to: to.to_owned(),
            api_away,
            total: begun.elapsed(),
        })
    }

    /// See [`lose_etcd`](super::ControlPlane::lose_etcd).
    pub(super) async fn lose_etcd<E: fmt::Display>(
        &self,
        target: Binaries,
        restore: impl AsyncFnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), Error> {
        let mut components = self.components.lock().await;
        components.check()?;
        let is_other = components.binaries.release.kubernetes != target.release.kubernetes;
        if is_other {
            components.stop_controllers().await?;
        }
        components.stop_api_server().await?;
        // Killed, as it is where its machine dies.
        drop(components.etcd.take());
        let data = self.layout().etcd_data();
        fs::remove_dir_all(&data).map_err(Error::io("removing the data of etcd"))?;
        let restored = restore(&data).await;
        let failed = |error: E| std::io::Error::other(error.to_string());
        let restored = restored.map_err(failed);
        restored.map_err(Error::io("restoring the data of etcd"))?;
        components.binaries = target;
        self.start_etcd(&mut components)?;
        self.start_kubernetes(&mut components).await?;
        if is_other {
            self.start_controllers(&mut components)?;
        }
        Ok(())
    }

    /// The ends of all logs, on standard error.
    pub(super) fn print_logs(&self) {
        match self.components.try_lock() {
            Ok(components) => eprintln!("{components}"),
            Err(_) => eprintln!("the control plane was being swapped"),
        }
    }

    async fn start_components(&self) -> Result<(), Error> {
        let mut components = self.components.lock().await;
        self.start_etcd(&mut components)?;
        self.start_kubernetes(&mut components).await?;
        self.start_controllers(&mut components)?;
        let config = self.dir().join("kwok.yaml");
        let flags = kwok::flags(&self.kubeconfigs.kwok, &config);
        let program = components.binaries.kwok.clone();
        components.kwok = Some(self.run("kwok", &program, flags)?);
        self.await_service_account(&mut components).await
    }

    fn start_etcd(&self, components: &mut Components) -> Result<(), Error> {
        let program = components.binaries.etcd.clone();
        let etcd = self.run("etcd", &program, self.layout().etcd())?;
        components.etcd = Some(etcd);
        Ok(())
    }

    /// Starts the API server and waits for `/readyz`.
    async fn start_kubernetes(&self, components: &mut Components) -> Result<(), Error> {
        let policy = self.dir().join("audit.yaml");
        let log = self.audit_log().ok();
        let audit = log.as_deref().map(|log| (policy.as_path(), log));
        let mut flags = self.layout().api_server(audit);
        flags.extend_from_slice(&self.api_server_flags);
        let program = components.binaries.kube_apiserver.clone();
        components.api_server = Some(self.run("kube-apiserver", &program, flags)?);
        let client = client(&self.kubeconfigs.testbed).await?;
        components
            .wait("kube-apiserver to be ready", || async {
                let request = Request::get("/readyz").body(Vec::new());
                let request = request.map_err(kube::Error::HttpError)?;
                client.request_text(request).await.map(|text| text == "ok")
            })
            .await
    }

    fn start_controllers(&self, components: &mut Components) -> Result<(), Error> {
        let mut flags = self
            .layout()
            .controller_manager(&self.kubeconfigs.controller_manager);
        flags.extend_from_slice(&self.controller_manager_flags);
        let program = components.binaries.kube_controller_manager.clone();
        components.controller_manager =
            Some(self.run("kube-controller-manager", &program, flags)?);
        let flags = self.layout().scheduler(&self.kubeconfigs.scheduler);
        let program = components.binaries.kube_scheduler.clone();
        components.scheduler = Some(self.run("kube-scheduler", &program, flags)?);
        Ok(())
    }

    /// Pods are refused until the controller manager has made this.
    async fn await_service_account(&self, components: &mut Components) -> Result<(), Error> {
        let client = client(&self.kubeconfigs.testbed).await?;
        components
            .wait("the default service account", || async {
                let path = "/api/v1/namespaces/default/serviceaccounts/default";
                let request = Request::get(path).body(Vec::new());
                let request = request.map_err(kube::Error::HttpError)?;
                client.request_text(request).await.map(|_| true)
            })
            .await
    }

    fn run(
        &self,
        name: &'static str,
        program: &Path,
        flags: Vec<String>,
    ) -> Result<Component, Error> {
        Component::start(name, program, flags, &self.run_dir.logs())
    }

    fn layout(&self) -> Layout<'_> {
        Layout {
            folder: self.run_dir.path(),
            pki: &self.pki,
            api_port: self.api_port.number(),
            etcd_port: self.etcd_port.number(),
            etcd_peer_port: self.etcd_peer_port.number(),
        }
    }
}

impl Components {
    fn none(binaries: Binaries) -> Self {
        Self {
            binaries,
            kwok: None,
            scheduler: None,
            controller_manager: None,
            api_server: None,
            etcd: None,
        }
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Component> {
        [
            &mut self.etcd,
            &mut self.api_server,
            &mut self.controller_manager,
            &mut self.scheduler,
            &mut self.kwok,
        ]
        .into_iter()
        .flatten()
    }

    /// Not so after a swap that failed.
    fn are_all_there(&mut self) -> bool {
        self.all_mut().count() == 5
    }

    fn check(&mut self) -> Result<(), Error> {
        self.all_mut().try_for_each(Component::check)
    }

    async fn stop_controllers(&mut self) -> Result<(), Error> {
        let stopped = [self.scheduler.take(), self.controller_manager.take()];
        for component in stopped.into_iter().flatten() {
            component.stop(PATIENCE).await?;
        }
        Ok(())
    }

    async fn stop_api_server(&mut self) -> Result<(), Error> {
        match self.api_server.take() {
            Some(server) => server.stop(PATIENCE).await,
            None => Ok(()),
        }
    }

    /// [`eventually`], given up at once when a component has ended.
    async fn wait<C, F>(&mut self, what: &str, check: C) -> Result<(), Error>
    where
        C: FnMut() -> F,
        F: Future<Output = Result<bool, kube::Error>>,
    {
        let ended = async {
            loop {
                if let Err(ended) = self.check() {
                    return ended;
                }
                sleep(crate::wait::PAUSE).await;
            }
        };
        tokio::select! {
            waited = eventually(what, PATIENCE, check) => waited,
            ended = ended => Err(ended),
        }
    }
}

impl fmt::Display for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            &self.etcd,
            &self.api_server,
            &self.controller_manager,
            &self.scheduler,
            &self.kwok,
        ];
        for component in all.into_iter().flatten() {
            writeln!(f, "--- the end of the log of {}:", component.name())?;
            writeln!(f, "{}", component.log_tail(SHOWN_LINES))?;
        }
        Ok(())
    }
}

pub(super) async fn find_or_build(minor: u32, report: &Report) -> Result<Binaries, Error> {
    let report = Arc::clone(report);
    // A build takes minutes of blocking work.
    let search = move || Binaries::find_or_build(minor, &|progress| report(progress));
    tokio::task::spawn_blocking(search)
        .await
        .map_err(|stopped| Error::Io {
            what: "looking for the programs".to_owned(),
            source: std::io::Error::other(stopped),
        })?
}

/// A client from a kubeconfig file that never retries by itself.
pub(crate) async fn client(kubeconfig: &Path) -> Result<kube::Client, Error> {
    let client = kube::Client::try_from(config(kubeconfig).await?);
    client.map_err(Error::api(using(kubeconfig)))
}

/// What a kubeconfig file says, for clients that never retry by themselves.
pub(crate) async fn config(kubeconfig: &Path) -> Result<kube::Config, Error> {
    let config = Kubeconfig::read_from(kubeconfig)
        .map_err(|error| Error::api(using(kubeconfig))(error.into()))?;
    let mut config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .map_err(|error| Error::api(using(kubeconfig))(error.into()))?;
    config.default_retry = false;
    Ok(config)
}

fn using(kubeconfig: &Path) -> String {
    format!("using {}", kubeconfig.display())
}
