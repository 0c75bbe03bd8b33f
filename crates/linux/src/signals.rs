//! Signals taken one by one by a thread that waits for them, instead of by handlers.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use rustix::process::Signal;

/// Signals that are blocked, to be taken with [`Signals::wait`].
#[derive(Clone, Copy)]
pub struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Blocks `signals` in the calling thread and in all threads that it will start. To be called
    /// first thing in a program.
    pub fn block(signals: &[Signal]) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // WHY: rustix has no safe form of these.
        // SAFETY: `sigemptyset` initialises `set`; the others get valid pointers to it.
        let (set, error) = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                libc::sigaddset(set.as_mut_ptr(), signal.as_raw());
            }
            let error = libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
            (set.assume_init(), error)
        };
        if error == 0 {
            Ok(Self { set })
        } else {
            Err(io::Error::from_raw_os_error(error))
        }
    }

    /// Waits for the next of the signals.
    pub fn wait(&self) -> io::Result<Signal> {
        loop {
            // WHY: rustix has no safe form of this.
            // SAFETY: the set is initialised; no information is asked for.
            let number = unsafe { libc::sigwaitinfo(&raw const self.set, ptr::null_mut()) };
            match Signal::from_named_raw(number) {
                Some(signal) => return Ok(signal),
                None if number == -1 => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
                None => {}
            }
        }
    }
}
