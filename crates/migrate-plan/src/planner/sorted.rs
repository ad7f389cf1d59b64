//! Plans do not depend on the order in which a cluster was read.

use std::borrow::Cow;

use super::Planner;

impl Planner<'_> {
    /// What `make` makes of this planner, with every list of the model in its
    /// documented order: positions in them are the ids of everything that follows.
    pub(super) fn in_order<T>(&self, make: impl FnOnce(&Planner<'_>) -> T) -> T {
        match self.model.sorted() {
            Cow::Borrowed(_) => make(self),
            Cow::Owned(model) => {
                let mut planner: Planner<'_> = self.clone();
                planner.model = &model;
                make(&planner)
            }
        }
    }
}
