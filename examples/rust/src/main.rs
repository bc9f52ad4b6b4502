//! main.rs - layer norm from Rust by FFI, without any crate.
//! SPDX-License-Identifier: MIT
//!
//!     PKG_CONFIG_PATH=/where/it/is/lib/pkgconfig cargo run --release
use std::ffi::{c_char, c_int, c_void, CStr};
use std::mem::size_of;
use std::ptr;

#[repr(C)]
struct Exec {
    num_threads: c_int,
    parallel_for: *const c_void,
    context: *mut c_void,
    flush_denormals: c_int,
    check_only: c_int,
}

/// The fields that this program uses and those before them: `size` tells the library
/// where the struct ends, and all that would follow has its default.
#[repr(C)]
struct LayerNormArgs {
    size: usize,
    dtype: c_int,
    x: *const c_void,
    y: *mut c_void,
    weight: *const c_void,
    bias: *const c_void,
    mean: *mut c_void,
    rstd: *mut c_void,
    rows: usize,
    cols: usize,
    inner: usize,
    x_stride: isize,
    y_stride: isize,
    eps: f64,
    exec: Exec,
}

extern "C" {
    fn fastnorm_layer_norm(args: *const LayerNormArgs) -> c_int;
    fn fastnorm_strerror(status: c_int) -> *const c_char;
    fn fastnorm_isa() -> *const c_char;
}

const FLOAT32: c_int = 1;

/// What a C string of static memory says.
fn text(p: *const c_char) -> &'static str {
    if p.is_null() {
        return "";
    }
    unsafe { CStr::from_ptr(p) }.to_str().unwrap_or("")
}

/// Layer norm of rows of `cols` values, a safe function: slices have the lengths that
/// the library is told.
fn layer_norm(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    eps: f64,
    y: &mut [f32],
) -> Result<(), &'static str> {
    let cols = weight.len();
    if cols == 0 || x.len() % cols != 0 || y.len() != x.len() || bias.len() != cols {
        return Err("lengths do not fit");
    }
    let args = LayerNormArgs {
        size: size_of::<LayerNormArgs>(),
        dtype: FLOAT32,
        x: x.as_ptr().cast(),
        y: y.as_mut_ptr().cast(),
        weight: weight.as_ptr().cast(),
        bias: bias.as_ptr().cast(),
        mean: ptr::null_mut(),
        rstd: ptr::null_mut(),
        rows: x.len() / cols,
        cols,
        inner: 1,
        x_stride: 0,
        y_stride: 0,
        eps,
        exec: Exec {
            num_threads: 0,
            parallel_for: ptr::null(),
            context: ptr::null_mut(),
            flush_denormals: 0,
            check_only: 0,
        },
    };
    match unsafe { fastnorm_layer_norm(&args) } {
        0 => Ok(()),
        status => Err(text(unsafe { fastnorm_strerror(status) })),
    }
}

fn main() -> Result<(), &'static str> {
    const ROWS: usize = 64;
    const COLS: usize = 100;
    let x: Vec<f32> = (0..ROWS * COLS)
        .map(|i| 1000.0 + (i * 7919 % 1009) as f32 * 0.01)
        .collect();
    let weight: Vec<f32> = (0..COLS).map(|i| 1.0 + i as f32 * 0.01).collect();
    let bias = vec![0.5f32; COLS];
    let mut y = vec![0f32; x.len()];
    layer_norm(&x, &weight, &bias, 1e-5, &mut y)?;

    let mut most = 0f64;
    for (row, result) in x.chunks(COLS).zip(y.chunks(COLS)) {
        let mean = row.iter().map(|&v| v as f64).sum::<f64>() / COLS as f64;
        let var = row.iter().map(|&v| (v as f64 - mean).powi(2)).sum::<f64>() / COLS as f64;
        for i in 0..COLS {
            let scale = weight[i] as f64 / (var + 1e-5).sqrt();
            let right = (row[i] as f64 - mean) * scale + bias[i] as f64;
            most = most.max((right - result[i] as f64).abs());
        }
    }
    println!("fastnorm on {}: differs by at most {most:.1e}", text(unsafe { fastnorm_isa() }));

    // What is wrong is said, and nothing is written.
    assert!(layer_norm(&x, &weight, &bias, f64::NAN, &mut y).is_err());
    if most < 1e-5 {
        Ok(())
    } else {
        Err("that is too much")
    }
}
