//! Capacity.

use migrate_core::Plan;

use super::{Problem, Task, peak};

/// A resource of nodes: what those offer that are away, from the begin of their drain on, is not
/// there for pods, which ask for so much that only `spare` may be missing. As
/// [`PlannedRoom`](migrate_core::PlannedRoom) has it, in units of the greatest divisor that all
/// offers have in common, of which no sum is a part.
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
        let offer = |task: &Task| room.offers.get(&task.node).copied().unwrap_or(0);
        let offers = tasks.iter().map(offer).filter(|offer| *offer <= room.spare);
        let unit = offers.fold(0, divisor).max(1);
        let spare = (room.spare / unit).max(1);
        Room {
            resource: room.resource.clone(),
            takes: tasks
                .iter()
                .map(|task| offer(task).div_ceil(unit).min(spare))
                .collect(),
            spare,
        }
    });
    rooms.collect()
}

/// The greatest that divides both; the other one if one is 0.
fn divisor(a: u64, b: u64) -> u64 {
    match b {
        0 => a,
        b => divisor(b, a % b),
    }
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
