# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
"""What --//platforms:backend may name."""

# Each platform's backend: the header that platforms/platform_backend.h includes for it.
BACKENDS = {
    "any": "//platforms:any_backend",
    "dma_heap": "//backends:dma_heap",
    "ion": "//backends:ion",
    "ion_legacy": "//backends:ion_legacy",
    "udmabuf": "//backends:udmabuf",
    "memfd": "//backends:memfd",
}
