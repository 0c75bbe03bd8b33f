//! Refuses to compile a program that can be lied to about the time, unless it is for tests.

#[cfg(all(feature = "clock-shift", not(debug_assertions)))]
compile_error!(
    "the feature `clock-shift` is for tests: a build without debug assertions may not have it"
);

#[cfg(test)]
mod tests;
