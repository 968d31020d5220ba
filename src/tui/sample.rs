//! Hand-made snapshots for tests.
