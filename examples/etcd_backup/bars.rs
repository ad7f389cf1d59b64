//! What moves while something goes on.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Something goes on, nobody knows for how long.
pub(crate) fn spinner(message: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(message);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Bytes of some.
pub(crate) fn bytes(message: &'static str) -> ProgressBar {
    bar(
        message,
        "{msg} {bar:40} {bytes}/{total_bytes} {bytes_per_sec}",
    )
}

/// Things of some.
pub(crate) fn counted(message: &'static str) -> ProgressBar {
    bar(message, "{msg} {bar:40} {pos}/{len}")
}

fn bar(message: &'static str, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::no_length().with_style(style);
    bar.set_message(message);
    bar
}

/// Moves `bar` on.
pub(crate) fn moves(bar: &ProgressBar) -> impl Fn(u64, u64) + Send + Sync + use<> {
    let bar = bar.clone();
    move |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    }
}
