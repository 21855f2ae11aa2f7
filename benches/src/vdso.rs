// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The C library's `getrandom`, and the one that the kernel's vDSO provides since Linux 6.11: random
//! bytes of the kernel without a system call for each draw.
//!
//! glibc 2.41 and later draw from the vDSO. Where the C library is older, the function is called here
//! as such a C library calls it, so that it can be compared with on every machine whose kernel has it.

use std::ffi::{CStr, c_int, c_uint, c_void};
use std::fmt;
use std::mem;
use std::ptr;

/// `ssize_t __vdso_getrandom(void *, size_t, unsigned, void *, size_t)`.
type Function =
    unsafe extern "C" fn(*mut c_void, usize, c_uint, *mut c_void, usize) -> libc::ssize_t;

/// `struct vgetrandom_opaque_params` of `linux/random.h`.
#[derive(Default)]
#[repr(C)]
struct Parameters {
    size_of_opaque_state: u32,
    protection: c_int,
    flags: c_int,
    reserved: [u32; 13],
}

/// The vDSO's generator, with a state of this thread.
pub struct Vdso {
    function: Function,
    /// A mapping that stays until the process ends.
    state: *mut c_void,
    state_length: usize,
}

impl Vdso {
    /// Asks the kernel for the function, and makes a state for it.
    ///
    /// # Errors
    ///
    /// Why there is nothing to measure: a kernel before Linux 6.11, or another C library than glibc,
    /// which is asked where the vDSO is.
    pub fn new() -> Result<Self, &'static str> {
        let function = find().ok_or("the kernel has no vDSO getrandom")?;
        let mut parameters = Parameters::default();
        // SAFETY: With no buffer and this length of a state, the function writes its parameters to
        // where the state would be. They are as large as the kernel's header has them.
        let answer = unsafe {
            function(
                ptr::null_mut(),
                0,
                0,
                (&raw mut parameters).cast(),
                usize::MAX,
            )
        };
        if answer != 0 {
            return Err("the vDSO's getrandom does not work on this machine");
        }
        let refused = "the vDSO's getrandom wants memory that the kernel refuses";
        let state_length = parameters.size_of_opaque_state as usize;
        // A state may not cross the end of a page, and begins at the start of one here.
        if state_length > 4096 {
            return Err(refused);
        }
        // SAFETY: The kernel chooses the address, so nothing that is mapped already is touched.
        let state = unsafe {
            libc::mmap(
                ptr::null_mut(),
                4096,
                parameters.protection,
                parameters.flags,
                -1,
                0,
            )
        };
        if state == libc::MAP_FAILED {
            return Err(refused);
        }
        let this = Self {
            function,
            state,
            state_length,
        };
        let mut bytes = [0; 16];
        if this.try_draw(&mut bytes) && bytes != [0; 16] {
            Ok(this)
        } else {
            Err("the vDSO's getrandom draws nothing")
        }
    }

    /// Draws random bytes.
    ///
    /// # Panics
    ///
    /// If it does not draw all of them at once, which it does for as few as benches ask for.
    #[inline]
    pub fn draw(&self, bytes: &mut [u8]) {
        assert!(self.try_draw(bytes), "the vDSO draws");
    }

    #[inline]
    fn try_draw(&self, bytes: &mut [u8]) -> bool {
        // SAFETY: It writes at most `bytes.len()` bytes to where the slice is. The state was mapped as
        // the kernel asked for it, is as long as it said, and is used by one thread at a time: this
        // type is not `Sync`, because it has a pointer.
        let drawn = unsafe {
            (self.function)(
                bytes.as_mut_ptr().cast(),
                bytes.len(),
                0,
                self.state,
                self.state_length,
            )
        };
        usize::try_from(drawn) == Ok(bytes.len())
    }
}

impl fmt::Debug for Vdso {
    /// Shows nothing of the state.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vdso").finish_non_exhaustive()
    }
}

/// glibc has the vDSO in its list of loaded libraries.
fn find() -> Option<Function> {
    const LOADED_ALREADY: c_int = libc::RTLD_LAZY | libc::RTLD_NOLOAD;
    let name = if cfg!(target_arch = "x86_64") {
        c"__vdso_getrandom"
    } else {
        c"__kernel_getrandom"
    };
    // SAFETY: Both take strings that end with 0. With this flag nothing is loaded, so no code runs.
    let function = unsafe {
        let library = libc::dlopen(c"linux-vdso.so.1".as_ptr(), LOADED_ALREADY);
        if library.is_null() {
            return None;
        }
        libc::dlsym(library, name.as_ptr())
    };
    if function.is_null() {
        return None;
    }
    // SAFETY: The kernel gives this name to a function of this type only. The vDSO is never unmapped.
    Some(unsafe { mem::transmute::<*mut c_void, Function>(function) })
}

/// Draws random bytes by the C library's function.
///
/// # Panics
///
/// If it does not draw all of them at once, which it does for as few as benches ask for.
#[inline]
pub fn draw_of_the_c_library(bytes: &mut [u8]) {
    // SAFETY: It writes at most `bytes.len()` bytes to where the slice is.
    let drawn = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    assert_eq!(
        usize::try_from(drawn),
        Ok(bytes.len()),
        "the C library draws"
    );
}

/// Which C library it is, and whether its `getrandom` is a system call.
#[must_use]
pub fn c_library() -> String {
    // SAFETY: It returns a string that ends with 0 and never changes.
    let version = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
    let version = version.to_string_lossy();
    let minor = version.split('.').nth(1).and_then(|it| it.parse().ok());
    let way = match minor {
        Some(41_u32..) => "draws from the vDSO where the kernel has its function",
        _ => "makes a system call for each draw",
    };
    format!("glibc {version}, whose getrandom {way}")
}
