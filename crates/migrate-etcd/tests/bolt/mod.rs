//! The builder of databases of this crate's own tests, which cannot be seen from other
//! tests, nor from `fuzz`.

#![allow(dead_code, unreachable_pub, reason = "its tests need more of it")]

#[path = "../../src/bolt/build.rs"]
pub(crate) mod build;

/// Flags of pages.
mod page {
    pub(super) const BRANCH: u16 = 0x01;
    pub(super) const LEAF: u16 = 0x02;
    pub(super) const META: u16 = 0x04;
    pub(super) const FREELIST: u16 = 0x10;
}
