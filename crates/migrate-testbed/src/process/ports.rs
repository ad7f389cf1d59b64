//! Ports that stay ours while a server restarts.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Error;

/// Below the range from which systems take the local ports of outgoing
/// connections: otherwise a client that reconnects while the server is away
/// can be given the server's own port, and the server never gets it back.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// A port of 127.0.0.1 reserved among all testbeds that share a cache folder,
/// released when dropped or when the process dies.
pub(crate) struct Port {
    number: u16,
    _reservation: File,
}

impl Port {
    /// Reserves a port that nothing listens on now.
    pub(crate) fn reserve(cache: &Path) -> Result<Self, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let reserving = || "reserving a port".to_owned();
        let folder = cache.join("ports");
        fs::create_dir_all(&folder).map_err(Error::io(reserving()))?;
        // Processes start at different places, so that they seldom collide.
        let start = process::id().wrapping_mul(97);
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let Ok(number) = u16::try_from(FIRST + start.wrapping_add(step) % COUNT) else {
                continue;
            };
            let reservation = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(folder.join(number.to_string()))
                .map_err(Error::io(reserving()))?;
            let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok();
            if reservation.try_lock().is_ok() && free() {
                return Ok(Self {
                    number,
                    _reservation: reservation,
                });
            }
        }
        Err(Error::Io {
            what: reserving(),
            source: std::io::ErrorKind::AddrInUse.into(),
        })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
