//! What a real Kafka needs on this machine, and its jars: fetched once by Maven, then kept under `target/kafka`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::kcat;
use crate::support::process::run;

const POM: &str = include_str!("pom.xml");
/// A first fetch on a slow line.
const FETCH_TIMEOUT: Duration = Duration::from_secs(600);
/// The oldest Java that runs Kafka 4's brokers.
const JAVA_MIN: u32 = 17;

/// The directory with Kafka's jars; an error says what this machine lacks.
pub fn jars() -> Result<PathBuf, String> {
    check_java()?;
    if !kcat::is_installed() {
        return Err("kcat is not installed (Debian's package: kcat)".to_owned());
    }
    // Cargo gives a test its target directory only by this one directory in it.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("cargo's target directory has no parent")?;
    let jars = target.join("kafka").join("jars");
    // The jars are those of the pom that lies with them, which comes last.
    if fs::read_to_string(jars.join("pom.xml")).is_ok_and(|pom| pom == POM) {
        return Ok(jars);
    }
    fetch(&jars)?;
    Ok(jars)
}

fn check_java() -> Result<(), String> {
    let output = Command::new("java").arg("-version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("java cannot be run: {error} (Java {JAVA_MIN} or newer is needed)"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let version: Option<u32> =
        text.split('"').nth(1).and_then(|version| version.split('.').next()).and_then(|v| v.parse().ok());
    match version {
        Some(version) if version >= JAVA_MIN => Ok(()),
        _ => Err(format!("Java {JAVA_MIN} or newer is needed, but java -version says: {}", text.trim())),
    }
}

fn fetch(jars: &Path) -> Result<(), String> {
    if Command::new("mvn").arg("-v").stdin(Stdio::null()).output().is_err() {
        return Err(
            "mvn is not installed (Debian's package: maven), and Kafka's jars have not been fetched yet".to_owned()
        );
    }
    // A directory of this process's own, renamed when it is whole: an interrupted fetch leaves nothing half done.
    let fetched = jars.with_file_name(format!("jars.{}", std::process::id()));
    let failed = |error: std::io::Error| format!("{}: {error}", fetched.display());
    fs::create_dir_all(&fetched).map_err(failed)?;
    fs::write(fetched.join("pom.xml"), POM).map_err(failed)?;
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "-f"]).arg(fetched.join("pom.xml"));
    maven.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
    maven.arg(format!("-DoutputDirectory={}", fetched.display()));
    let (status, stdout, stderr) = run(maven, Stdio::null(), FETCH_TIMEOUT);
    if !status.success() {
        return Err(format!("Maven could not fetch Kafka's jars: {}{stderr}", String::from_utf8_lossy(&stdout)));
    }
    match fs::remove_dir_all(jars) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    fs::rename(&fetched, jars).map_err(failed)
}
