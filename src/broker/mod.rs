//! (to come)
pub mod flight;
pub mod verdict;
