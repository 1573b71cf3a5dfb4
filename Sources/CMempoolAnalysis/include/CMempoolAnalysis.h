// Which linkage names can be demangled within limits: what the analysis needs and Swift cannot say.
// A child tries them, as demanglers have no limits of their own and may crash; Swift cannot fork.
#ifndef CMEMPOOL_ANALYSIS_H
#define CMEMPOOL_ANALYSIS_H

#include <stdbool.h>
#include <stddef.h>

/// What demangling may take.
struct canalysis_limits {
    /// Bytes of one demangled name.
    size_t output_bytes;
    /// Bytes of all of them.
    size_t all_output_bytes;
    /// Bytes of memory beyond what the process has already.
    size_t memory_bytes;
    /// Processor time of one name.
    unsigned name_milliseconds;
    /// Processor time of all names together.
    unsigned all_milliseconds;
    /// Names that go beyond a limit; after that many the others are not tried.
    unsigned offenders;
};

/// Finds out which of `count` names the demanglers of the Swift runtime take within `limits`, and sets `fits` for these alone.
///
/// Names end with a null byte, `lengths` does not count it. Any bytes will do: whatever goes wrong ends a child. Waits for its
/// children; takes twice the limit of all names at most. If no child can be started, no name fits. May be called by any thread.
void canalysis_try_names(
    const char *const *names, const size_t *lengths, size_t count, const struct canalysis_limits *limits, bool *fits
);

#endif
