"""KFP components: one thin step a file. Paths in, one service call, paths out.

The bodies run inside the image (or, embedded, in a process of this environment) and import
`heliotrope` only there. A file here must not use postponed annotations: kfp reads the real ones.
"""
