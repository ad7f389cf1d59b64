//! Progress while it runs: bars on a terminal, lines elsewhere.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use migrate_core::{Event, EventKind, EventSink, Moment, Phase};

use crate::cli::Cli;
use crate::foresight::Ends;

/// Bars: targets done, pods moved, and when it ends.
pub(crate) struct Progress {
    bars: Arc<Bars>,
}

struct Bars {
    all: MultiProgress,
    targets: ProgressBar,
    pods: ProgressBar,
    /// When it ends.
    ends: ProgressBar,
    /// The last line of that.
    said: Mutex<String>,
    /// Neither bars nor lines.
    silent: bool,
    terminal: bool,
}

impl Progress {
    /// Over so many members and nodes.
    pub(crate) fn new(cli: &Cli, count: usize) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let silent = cli.json;
        let all = MultiProgress::new();
        let style = |template: &str| {
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
        };
        let bar = |bar| match silent || !terminal {
            true => ProgressBar::hidden(),
            false => all.add(bar),
        };
        let (targets, pods) = (
            bar(ProgressBar::new(count as u64)),
            bar(ProgressBar::no_length()),
        );
        let ends = bar(ProgressBar::no_length());
        targets.set_style(style("targets {bar:40} {pos}/{len}  {wide_msg}"));
        pods.set_style(style("pods    {pos} moved  {wide_msg}"));
        ends.set_style(style("{wide_msg}"));
        let bars = Bars {
            all,
            targets,
            pods,
            ends,
            said: Mutex::default(),
            silent,
            terminal,
        };
        Self {
            bars: Arc::new(bars),
        }
    }

    /// Where the run sends its events.
    pub(crate) fn sink(&self) -> Arc<dyn EventSink> {
        let bars = Arc::clone(&self.bars);
        Arc::new(move |event: &Event| bars.show(event))
    }

    /// When it ends, as it looks at `now`: a line where that is other than before.
    pub(crate) fn ends(&self, now: Moment, ends: Option<&Ends>) {
        let text = ends.map(|ends| format!("ends {ends}")).unwrap_or_default();
        let bars = &self.bars;
        bars.ends.set_message(text.clone());
        let mut said = bars.said.lock().unwrap_or_else(PoisonError::into_inner);
        if !bars.silent && !bars.terminal && !text.is_empty() && *said != text {
            eprintln!("{now}  {text}");
            *said = text;
        }
    }

    /// Takes the bars away.
    pub(crate) fn finish(&self) {
        self.bars.targets.finish_and_clear();
        self.bars.pods.finish_and_clear();
        self.bars.ends.finish_and_clear();
    }
}

impl Bars {
    fn show(&self, event: &Event) {
        if self.silent {
            return;
        }
        match &event.kind {
            EventKind::StepBegan { step } => self.line(event, &format!("{step}")),
            EventKind::StepEnded {
                step,
                error: Some(error),
            } => {
                self.line(event, &format!("{step} failed: {error}"));
            }
            EventKind::ActionBegan { action } => {
                self.targets.set_message(action.to_string());
                if !self.terminal {
                    self.line(event, &action.to_string());
                }
            }
            EventKind::ActionEnded {
                action,
                error: Some(error),
            } => {
                self.line(event, &format!("{action} failed: {error}"));
            }
            EventKind::ActionEnded {
                action,
                error: None,
            } if matches!(action.phase, Phase::Verify | Phase::BackUp) => {
                self.targets.inc(1);
            }
            EventKind::PodGone { .. } => self.pods.inc(1),
            EventKind::PodBlocked { pod, blocked, .. } => {
                self.pods.set_message(format!("{pod} waits: {blocked}"));
            }
            EventKind::PodNeedsConsent { pod, to, .. } => {
                self.line(event, &format!("pod {pod} needs consent: {to}"));
            }
            EventKind::Said { node, line } => self.line(event, &format!("{node}: {line}")),
            EventKind::Found { finding } => self.line(event, &finding.to_string()),
            EventKind::Waiting { on, .. } if on == "paused" => {
                self.line(event, "paused: nothing begins until the anchor is let go");
            }
            EventKind::Progress {
                done,
                of: Some(of),
                unit,
                ..
            } if done == of => {
                self.line(event, &format!("{done} {unit}"));
            }
            _ => {}
        }
    }

    fn line(&self, event: &Event, text: &str) {
        let line = format!("{}  {text}", event.at);
        if self.terminal {
            // Nothing can be done about a terminal that is gone.
            let _ = self.all.println(line);
        } else {
            eprintln!("{line}");
        }
    }
}

/// `1h 02m 03s`, `2m 03s`, `3s`.
pub(crate) fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m {seconds:02}s"),
        _ => format!("{hours}h {minutes:02}m {seconds:02}s"),
    }
}
