//! What the control plane does: writer, listeners, audit files, expiry, clocks.
