//! How many slots of a pool may begin: its width, what of it is kept for failures,
//! the stage of its ramp, and the zone in work.

use std::sync::Arc;

use super::{Machine, Obstacle, State};

impl Machine {
    /// Lets so many nodes of `pool` be away at once from now on. For a clone that is let
    /// run ahead: no input says so to a rollout.
    pub(crate) fn set_width(&mut self, pool: u32, width: u32) {
        let layout = Arc::make_mut(&mut self.layout);
        let least = u32::from(layout.rules[pool as usize].surge == 0);
        layout.widths[pool as usize] = width.max(least);
        self.mark_dirty(pool);
        self.dispatch();
    }

    /// Whether a slot of `pool` whose node is not away may begin as far as the
    /// pool's width, its reserve and its stage go.
    ///
    /// Nodes that are away for another reason than this rollout use the reserve up
    /// first, and narrow the rollout only beyond it:
    /// in flight + max(reserve, other away) < width. Those that go behind replacements
    /// count for the pool's surge instead.
    pub(super) fn has_room(&self, pool: u32) -> bool {
        let has_place = self.has_surge(pool) || self.room_by_width(pool);
        has_place && self.left_of_stage(pool) > 0
    }

    fn room_by_width(&self, pool: u32) -> bool {
        let at = pool as usize;
        let in_flight = self.flying(pool);
        let kept = self.layout.rules[at].reserve.max(self.others_away(pool));
        in_flight.saturating_add(kept) < self.layout.widths[at]
    }

    /// Slots of `pool` in flight whose nodes are away: none that is behind a replacement.
    fn flying(&self, pool: u32) -> u32 {
        let pool = &self.pools[pool as usize];
        pool.in_flight.saturating_sub(pool.surging)
    }

    /// Nodes of `pool` that are away and in no slot in flight.
    fn others_away(&self, pool: u32) -> u32 {
        let away = self.pools[pool as usize].away;
        away.saturating_sub(self.flying(pool))
    }

    /// Whether `slot`, which takes no further place of its pool, may begin as far as that
    /// goes: its node is away already, or has its replacement.
    pub(super) fn needs_no_room(&self, slot: u32) -> bool {
        let pool = self.layout.pool_of(slot);
        let width = self.layout.widths[pool as usize];
        let is_within = || self.pools[pool as usize].away <= width && self.left_of_stage(pool) > 0;
        self.has_replacement(slot) || is_within()
    }

    /// How many more slots of `pool` may be in flight in its stage.
    ///
    /// A slot in flight has a place in the stage until it is verified; one that is
    /// given up leaves its place to another. So the next stage opens when as many as
    /// the stage has are verified, and none is in flight then.
    pub(super) fn left_of_stage(&self, pool: u32) -> u32 {
        let of_pool = &self.pools[pool as usize];
        match self.stage_end(pool) {
            Some(end) => end
                .saturating_sub(of_pool.verified)
                .saturating_sub(of_pool.in_flight),
            None => u32::MAX,
        }
    }

    /// How many are verified at the end of the stage of `pool`; `None` past its ramp.
    fn stage_end(&self, pool: u32) -> Option<u32> {
        let verified = self.pools[pool as usize].verified;
        let mut stages = self.layout.rules[pool as usize].stages.iter();
        stages.find(|end| **end > verified).copied()
    }

    /// Whether another zone of its pool is in work than that of `slot`.
    pub(super) fn is_elsewhere(&self, slot: u32) -> bool {
        let pool = &self.pools[self.layout.pool_of(slot) as usize];
        pool.in_flight > 0 && pool.zone != self.layout.slots[slot as usize].zone
    }

    /// Lets `slot`, which must be in no queue, wait until nothing of its pool is in
    /// flight.
    pub(super) fn put_elsewhere(&mut self, slot: u32) {
        let pool = self.layout.pool_of(slot) as usize;
        self.links.push(&mut self.pools[pool].elsewhere, slot);
        self.wait_in(slot, State::Queued);
    }

    /// With nothing in flight any zone may be the next: the first slot that can
    /// begin decides.
    pub(super) fn leave_zone(&mut self, pool: u32) {
        let pool = &mut self.pools[pool as usize];
        if pool.in_flight == 0 {
            self.links.append(&mut pool.ready, &mut pool.elsewhere);
        }
    }

    /// What of its pool keeps `slot`, if anything does. A node that is away already
    /// needs no further slot, and takes nothing of the reserve; one that has its
    /// replacement needs nothing more.
    pub(super) fn no_room(&self, slot: u32) -> Option<Obstacle> {
        let id = self.layout.pool_of(slot);
        let pool = &self.pools[id as usize];
        if self.has_replacement(slot) {
            return None;
        }
        if self.left_of_stage(id) == 0 {
            let left = self.stage_end(id)?.saturating_sub(pool.verified);
            return Some(Obstacle::Ramp { pool: id, left });
        }
        let width = self.layout.widths[id as usize];
        let is_free = match pool.cordoned.contains(&slot) {
            true => pool.away <= width,
            false => self.room_by_width(id),
        };
        let is_free = is_free || self.has_surge(id);
        if is_free {
            return None;
        }
        Some(if pool.away < width {
            Obstacle::Reserve { pool: id }
        } else if pool.in_flight == 0 && self.layout.rules[id as usize].surge == 0 {
            Obstacle::NodeAway { pool: id }
        } else {
            Obstacle::PoolSlot { pool: id }
        })
    }
}
