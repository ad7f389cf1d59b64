//! Serves or asks at a steady rate; see the module `traffic` of the library.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    migrate_testbed::traffic_main(&arguments).await
}
