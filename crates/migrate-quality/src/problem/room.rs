//! Capacity.

use migrate_core::Plan;

use super::{Problem, Task, peak};

/// A resource of nodes: what those offer that are away, from the begin of their drain on, is not
/// there for pods, which ask for so much that only `spare` may be missing. As
/// [`PlannedRoom`](migrate_core::PlannedRoom) has it, in the units that the machine counts in: as
/// large a power of two as it takes for 31 bits, offers rounded up and what there is to spare down.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Room {
    /// Its name.
    pub resource: String,
    /// How much may be away at once, 1 at least.
    pub spare: u64,
    /// What the node of each task takes: all that there is if it offers more, for then it goes
    /// alone.
    pub takes: Vec<u64>,
}

/// The rooms of a plan.
pub(super) fn rooms(plan: &Plan, tasks: &[Task]) -> Vec<Room> {
    let rooms = plan.rooms.iter().map(|room| {
        let bits = u64::BITS - room.spare.leading_zeros();
        let unit = 1u64 << bits.saturating_sub(31);
        let spare = (room.spare / unit).max(1);
        let takes = tasks.iter().map(|task| {
            let offer = room.offers.get(&task.node).copied().unwrap_or(0);
            offer.div_ceil(unit).min(spare)
        });
        Room {
            resource: room.resource.clone(),
            takes: takes.collect(),
            spare,
        }
    });
    rooms.collect()
}

impl Problem {
    /// A resource of which too much is away at some moment, begun at these times.
    pub fn lacking(&self, starts: &[i64]) -> Option<&str> {
        let lacks = |room: &&Room| {
            let away = self.tasks.iter().zip(starts).zip(&room.takes);
            let away = away.map(|((task, start), takes)| (*start, task.length, *takes));
            peak(away) > room.spare
        };
        let room = self.rooms.iter().find(lacks)?;
        Some(&room.resource)
    }
}
