//! Plans do not depend on the order in which a cluster was read.

use super::Planner;
use super::room::Numbers;

impl Planner<'_> {
    /// What `make` makes of this planner, with every list of the model in its
    /// documented order, and of the model's numbers: positions in the lists are the ids
    /// of everything that follows.
    ///
    /// Whether pods are in order is seen as they are put into numbers. Where they are
    /// not, that is mostly seen with the first of them.
    pub(super) fn in_order<T>(
        &self,
        make: impl for<'m> FnOnce(&Planner<'m>, Numbers<'m>) -> T,
    ) -> T {
        let is_sorted = self.model.is_sorted_but_for_pods();
        let numbers = || Numbers::in_order(self.model, self.policy);
        if let Some(numbers) = is_sorted.then(numbers).flatten() {
            return make(self, numbers);
        }
        let mut model = self.model.clone();
        model.sort();
        let mut planner: Planner<'_> = self.clone();
        planner.model = &model;
        make(&planner, Numbers::of(&model, self.policy))
    }
}
