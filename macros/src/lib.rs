//! Derive macros of millstream.
