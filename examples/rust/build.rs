//! build.rs - where the installed library is, as pkg-config says.
//! SPDX-License-Identifier: MIT
use std::process::Command;

fn main() {
    let found = Command::new("pkg-config")
        .args(["--libs", "fastnorm"])
        .output()
        .expect("pkg-config is needed to find fastnorm");
    assert!(
        found.status.success(),
        "pkg-config does not know fastnorm: set PKG_CONFIG_PATH"
    );
    for flag in String::from_utf8_lossy(&found.stdout).split_whitespace() {
        if let Some(folder) = flag.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={folder}");
            // So that the program finds it, too, without LD_LIBRARY_PATH.
            println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
        } else if let Some(name) = flag.strip_prefix("-l") {
            println!("cargo:rustc-link-lib={name}");
        }
    }
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
}
