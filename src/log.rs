//! Log records for operators through the `log` crate. Without the feature, the macros expand to nothing.

#[cfg(feature = "log")]
pub(crate) use ::log::{debug, error, warn};

/// Compiles its arguments and does nothing.
#[cfg(not(feature = "log"))]
macro_rules! silent {
    ($($argument:tt)*) => {
        if false {
            let _ = format_args!($($argument)*);
        }
    };
}

#[cfg(not(feature = "log"))]
pub(crate) use {silent as debug, silent as error, silent as warn};
