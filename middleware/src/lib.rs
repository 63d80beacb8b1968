//! tower layers for event code.
