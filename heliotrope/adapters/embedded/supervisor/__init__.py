"""`heliotrope up`: the processes of a platform on one machine, kept running.

`process` runs one child, `children` says which there are, `revisions` carries out serving plans,
`envoy` writes the gateway's configuration, `gateway` hands it over, `state` is what others read.
"""
