module hotframe/workloads/gostacks

go 1.20
