"""Triton code of the grouped 3x3: a program marches over the rows of a column of the image.

Layout everywhere: N x H x W x C in memory (channels_last). A program owns 64 channels or so, cut
into blocks of B = max(16, channels per group): 16 is what a tensor core sums over, and 32 bytes.
Groups narrower than 16 share a block, whose weights are block-diagonal; so a value that is not
finite spreads to the groups of its block (0 * inf is not a number).

Of every input row three copies are loaded, shifted by one column; each feeds three output rows,
whose sums stay in registers. Nine taps cost three loads, two of them out of the L1 cache.
"""
