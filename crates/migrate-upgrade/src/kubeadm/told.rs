//! What steps say, told while they run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use migrate_core::{ActionId, EventKind, StepContext};

use crate::unit::{Heard, News};

/// How far the log of each action was told, by all clones of a driver together.
/// A new process knows of none: what it tells first begins with the end of the
/// log there is.
#[derive(Clone, Default)]
pub(super) struct Told {
    heard: Arc<Mutex<BTreeMap<(String, ActionId), Heard>>>,
}

impl Told {
    pub(super) fn of(&self, run: &str, action: &ActionId) -> Heard {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let known = heard.get(&(run.to_owned(), action.clone()));
        known.copied().unwrap_or_default()
    }

    /// Emits what is new as events.
    pub(super) fn tell(&self, cx: &StepContext, node: &str, action: &ActionId, news: News) {
        let key = (cx.fence.run.clone(), action.clone());
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.insert(key, news.heard);
        drop(heard);
        for line in news.lines {
            cx.emit(EventKind::Said {
                node: node.to_owned(),
                line,
            });
        }
    }
}
