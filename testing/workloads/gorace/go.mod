module hotframe/workloads/gorace

go 1.20
