//! The one integration binary.

mod peers;
